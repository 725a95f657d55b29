"""What people do with a pruned network next: copy, average, wrap, train, give it a new head."""

import copy
import io
import os
import pickle
import tempfile

import pytest
import torch
from torch import nn

import autoprune as ap


class Block(nn.Module):
    """States widths that its forward does not read."""

    def __init__(self):
        super().__init__()
        self.dims = (16, 32)
        self.grow = nn.Linear(8, 16)
        self.out = nn.Linear(16, 32)

    def forward(self, x):
        return self.out(self.grow(x).relu()).relu()


class Net(nn.Module):
    """As model libraries make them: attributes say what a new head would have to read."""

    def __init__(self):
        super().__init__()
        self.num_features = self.head_hidden_size = 32
        self.input_dim = 8
        self.max_length = 32
        self.body = Block()
        self.norm = nn.BatchNorm1d(32)
        self.head = nn.Linear(32, 4)

    def reset_head(self, classes):
        self.head = nn.Linear(self.num_features, classes)

    def forward(self, x):
        return self.head(self.norm(self.body(x)))


class Twice(nn.Module):
    """Two widths of one size, which shrink differently: `dim` is either."""

    def __init__(self):
        super().__init__()
        self.dim = 32
        self.a, self.b, self.c = nn.Linear(8, 32), nn.Linear(32, 32), nn.Linear(32, 4)

    def forward(self, x):
        return self.c(self.b(self.a(x).relu()).relu())


X = torch.randn(4, 8)


@pytest.fixture(scope="module", params=["own class", "graph"])
def result(request):
    torch.manual_seed(0)
    options = ap.Options(keep_class=request.param == "own class")
    return ap.prune(Net().eval(), X, channels=0.5, options=options)


def test_widths_that_no_forward_reads_follow(tmp_path):
    result = ap.prune(Net().eval(), X, channels=0.5)
    small = result.model
    assert (small.num_features, small.head_hidden_size, small.body.dims) == (16, 16, (8, 16))
    assert (small.input_dim, small.max_length) == (8, 32)
    small.reset_head(7)
    assert small(X).shape == (4, 7)
    result = ap.prune(Net().eval(), X, channels=0.5)
    result.save(tmp_path / "small.safetensors")
    assert ap.load(Net(), tmp_path / "small.safetensors").num_features == 16
    again = ap.prune(result.model, X, channels=0.5).model
    again.reset_head(3)
    assert again(X).shape == (4, 3)


def test_a_width_that_could_be_two_is_left():
    net = Twice()
    with torch.no_grad():
        net.b.weight[4:] *= 1e-3
    small = ap.prune(net, X, sizes={"a*": 16, "b*": 8}).model
    assert (small.a.out_features, small.b.out_features, small.dim) == (16, 8, 32)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_copies(result, copied):
    assert torch.equal(copied(result.model)(X), result.model(X))
    assert torch.equal(copied(result).model(X), result.model(X))
    assert str(copied(result.report)) == str(result.report)
    assert copied(result.plan) == result.plan


def test_pickle(result):
    back = pickle.loads(pickle.dumps(result))
    assert back.plan == result.plan
    assert str(back.report) == str(result.report)
    assert list(back.model.state_dict()) == list(result.model.state_dict())
    for mode in (True, False):
        before = copy.deepcopy(result.model).train(mode)
        after = copy.deepcopy(back.model).train(mode)
        assert torch.equal(after(X), before(X))


def test_torch_save(result):
    file = io.BytesIO()
    torch.save(result.model, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)(X), result.model(X))
    file = io.BytesIO()
    torch.save(result.model.state_dict(), file)
    file.seek(0)
    other = copy.deepcopy(result.model)
    other.load_state_dict(torch.load(file))
    assert torch.equal(other(X), result.model(X))


def test_averages_of_weights(result):
    average = torch.optim.swa_utils.AveragedModel(result.model)
    average.update_parameters(result.model)
    assert torch.equal(average(X), result.model(X))


def test_other_dtypes_and_devices(result):
    assert copy.deepcopy(result.model).to(torch.float64)(X.double()).dtype == torch.float64
    assert copy.deepcopy(result.model).to("meta")(X.to("meta")).device.type == "meta"


def test_compiled_traced_and_exported(result):
    compiled = torch.compile(copy.deepcopy(result.model), backend="eager")
    assert torch.equal(compiled(X), result.model(X))
    assert torch.equal(torch.jit.trace(result.model, X)(X), result.model(X))
    assert torch.equal(torch.export.export(result.model, (X,)).module()(X), result.model(X))


def test_gradient_checkpoints(result):
    model = copy.deepcopy(result.model)
    torch.utils.checkpoint.checkpoint(model, X, use_reentrant=False).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_data_parallel(result):
    with tempfile.TemporaryDirectory() as folder:
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{os.path.join(folder, 'store')}", rank=0, world_size=1
        )
        try:
            model = nn.parallel.DistributedDataParallel(copy.deepcopy(result.model).train())
            model(X).sum().backward()
        finally:
            torch.distributed.destroy_process_group()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_lightning(result):
    lightning = pytest.importorskip("lightning")

    class Task(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.model = copy.deepcopy(result.model)

        def training_step(self, batch, index):
            return self.model(batch[0]).square().mean()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    task = Task()
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X), batch_size=4)
    with tempfile.TemporaryDirectory() as folder:
        trainer = lightning.Trainer(
            max_steps=2, logger=False, enable_progress_bar=False, enable_model_summary=False,
            accelerator="cpu", default_root_dir=folder,
        )  # fmt: skip
        trainer.fit(task, data)
    assert not torch.equal(task.model.eval()(X), result.model(X))


def test_transformers_trainer(tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        vocab_size=20, num_labels=2,
    )  # fmt: skip
    model = transformers.BertForSequenceClassification(config).eval()
    ids = torch.randint(0, 20, (2, 6))
    options = ap.Options(keep_config=True)
    result = ap.prune(model, {"input_ids": ids}, channels=0.5, options=options)
    data = [{"input_ids": row, "labels": i % 2} for i, row in enumerate(ids)]
    arguments = transformers.TrainingArguments(
        tmp_path / "run", max_steps=2, report_to=[], use_cpu=True, disable_tqdm=True,
        save_strategy="no", logging_strategy="no", learning_rate=0.01,
    )  # fmt: skip
    trainer = transformers.Trainer(result.model, arguments, train_dataset=data)
    trainer.train()
    trainer.save_model(tmp_path / "saved")
    loaded = type(model).from_pretrained(tmp_path / "saved").eval()
    small = result.model.eval()
    assert torch.equal(loaded(input_ids=ids).logits, small(input_ids=ids).logits)
    assert loaded.num_parameters() < model.num_parameters()


def test_a_head_of_a_model_library():
    from tests.zoo.shim import ensure_torchvision

    ensure_torchvision()
    timm = pytest.importorskip("timm")
    x = torch.randn(1, 3, 32, 32)
    model = timm.create_model("resnet10t", num_classes=3)
    small = ap.prune(model, x, channels=0.5).model
    small.reset_classifier(5)
    assert small.eval()(x).shape == (1, 5)
    assert small.num_features == model.num_features // 2


@pytest.mark.slow
@pytest.mark.zoo
def test_a_trainer_that_builds_networks_itself(tmp_path):
    from tests.zoo.shim import ensure_torchvision

    ensure_torchvision()
    pytest.importorskip("ultralytics")
    pytest.importorskip("polars", reason="ultralytics writes its results with polars")
    from examples.finetune_detector import main

    again = main(tmp_path, epochs=1, images=4)
    assert isinstance(again.predict(torch.zeros(1, 3, 64, 64), verbose=False), list)
