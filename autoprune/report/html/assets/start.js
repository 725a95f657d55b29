// Draw, once everything is defined.

onChoose.push(showChosen);
redraw();
fit(READABLE);
cull();
addEventListener("resize", apply);
