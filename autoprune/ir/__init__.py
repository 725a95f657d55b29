"""The intermediate representation: axis types, graphs, groups and plans. numpy only."""
