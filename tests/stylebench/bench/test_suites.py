"""Suites at their smallest: the numbers hang together, and wrong engines get no time."""

import pytest
import torch

from stylebench.bench.measure.statistics import timing
from stylebench.bench.records.store import read_record
from stylebench.bench.suites import SUITES, batch, engine_cases, sizes, suite
from stylebench.bench.suites import kernels as kernels_suite
from stylebench.bench.suites.base import Bench, Options
from stylebench.bench.suites.runner import run_suite
from stylebench.bench.workloads import roofline, timed_run
from stylebench.bench.workloads.breakdown import part_of, scaled
from stylebench.bench.workloads.formulations import beyond
from stylebench.bench.workloads.image_tasks import image_tasks
from stylebench.bench.workloads.loss_tasks import loss_shape, loss_tasks
from stylebench.bench.workloads.parity_gate import passed
from stylebench.bench.workloads.roofline import ConvStack
from stylebench.bench.workloads.tap_tasks import tap_tasks
from stylebench.cli.app import main
from stylebench.engines.fused import engine as fused
from stylebench.engines.tiled.engine import Tiled
from stylebench.model.original import SHA256

from .conftest import BRIEF, ShallowBench

CPU = torch.device("cpu")


@pytest.fixture
def call(monkeypatch, capsys):
    """Runs ``stylebench bench`` in this process; returns its exit code, stdout and stderr."""

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["stylebench", "bench", *arguments])
        monkeypatch.setattr("warnings.showwarning", None)
        with pytest.raises(SystemExit) as stop:
            main()
        return stop.value.code, *capsys.readouterr()

    return run


@pytest.mark.slow
def test_smoke_prints_a_record_that_validates(tmp_path, call):
    options = ("--json", "--size", "32", "--device", "cpu", "--filter", "fused")
    code, text, said = call("smoke", *options)
    assert code == 0, said
    (tmp_path / "record.json").write_text(text)
    record = read_record(tmp_path / "record.json")
    assert record.complete
    assert record.command.startswith("stylebench bench smoke --json")
    (case,) = record.cases
    assert case.parity.passed
    whats = [check.what for check in case.parity.checks]
    assert whats == [
        "loss at the start", "gradient at the start",
        "loss after the timed loop", "gradient after the timed loop",
        "loss logged by the timed loop", "the image after the timed loop: share not finite",
    ]  # fmt: skip
    assert case.timing.clock == "perf_counter"
    assert case.setup.build > 0
    assert sum(case.parts.values()) == pytest.approx(case.timing.median)
    roofs = {(roof.what, roof.precision): roof for roof in record.roofs}
    assert set(roofs) == {("copy", None), ("matmul", "fp32"), ("convolutions", "fp32")}
    for roof in record.roofs:
        assert len(roof.timing.samples) >= 3
    share = roofs["convolutions", "fp32"].value / case.timing.median
    assert case.roof_share == pytest.approx(share)
    assert case.flops > ConvStack(None, "relu5_1").flops((24, 32))


@pytest.fixture
def lent(monkeypatch):
    """A bench on an H100 that is not there."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (9, 0))
    bench = Bench(Options(device="cpu"))
    bench.device = torch.device("cuda")
    return bench


def test_on_a_gpu_the_headline_is_the_first_job_and_others_are_of_one_precision(lent):
    first, *others = [list(job.cases) for job in suite("iteration").jobs(lent)]
    assert first == ["reference fp32 512x512", "fused fp16 512x512"]
    headlines = [[name.replace("512", side) for name in first] for side in ("1024", "2048")]
    for names in others:
        one_precision = len({name.split()[1] for name in names}) == 1
        assert one_precision or names in headlines
    compiled = [all(name.startswith("compiled") for name in names) for names in others]
    assert compiled == sorted(compiled)
    names = {*first, *(name for names in others for name in names)}
    assert len(names) == len(first) + sum(map(len, others))
    every = {
        f"{engine} {precision} {side}x{side}"
        for engine in ("reference", "eager", "compiled", "fused")
        for precision in lent.precisions(engine)
        for side in (512, 1024, 2048)
    }
    assert names == every | {"fused fp16 512x512 history 20", "fused fp16 512x512 adam"}
    assert len(every) > 30


def test_on_a_gpu_smoke_tries_the_precision_that_a_user_gets(lent):
    (job,) = suite("smoke").jobs(lent)
    assert list(job.cases) == ["reference fp32 64x48", "fused fp16 64x48"]


def test_what_takes_minutes_to_compile_comes_last_in_parity(lent):
    main, *_ = suite("parity").jobs(lent)
    engines = dict.fromkeys(parameters["engine"] for parameters in main.cases.values())
    assert list(engines) == ["fused", "eager", "compiled"]


def test_a_wrong_engine_gets_no_time(smallest, monkeypatch):
    original = fused.sk.style_loss_forward
    monkeypatch.setattr(
        fused.sk, "style_loss_forward", lambda *a: (original(*a)[0] * 1.001, *original(*a)[1:])
    )
    record = smallest("smoke", pattern="fused")
    (case,) = record.cases
    assert case.status == "parity failed"
    assert case.timing is None
    assert "loss at the start" in case.note


@pytest.mark.parametrize("engine", ["reference", "fused"])
def test_a_loop_that_does_not_do_what_its_engine_does_gets_no_time(smallest, monkeypatch, engine):
    original = timed_run.TimedRun.logged
    monkeypatch.setattr(timed_run.TimedRun, "logged", lambda timed_run: original(timed_run) * 1.001)
    (case,) = smallest("smoke", pattern=engine).cases
    assert case.status == "parity failed"
    assert case.timing is None
    assert case.note == "outside the tolerance: loss logged by the timed loop; no time is kept"


@pytest.mark.parametrize(("fits", "where"), [(True, ""), (False, ", at 32 x 24 px")])
def test_a_size_is_proven_itself_where_the_oracle_fits(smallest, monkeypatch, fits, where):
    monkeypatch.setitem(sizes._PROVEN, "cpu", 32)
    monkeypatch.setattr(engine_cases, "oracle_fits", lambda *_: fits)
    cases = smallest("sizes", size=48, pattern="fused").cases
    assert len(cases) == 2, "whole and in tiles"
    for case in cases:
        whats = [check.what for check in case.parity.checks]
        assert f"loss after the timed loop{where}" in whats
        assert ("loss logged by the timed loop" in whats) is fits


def fail(error):
    def failing(*_):
        raise error

    return failing


def test_parts_that_cannot_be_had_cost_no_case(smallest, monkeypatch):
    monkeypatch.setattr(engine_cases, "breakdown", fail(MemoryError("the profile")))
    (case,) = smallest("smoke", pattern="fused").cases
    assert (case.status, case.parts) == ("ok", {})
    assert case.note == "no parts: the profile"


def test_a_roof_that_does_not_fit_costs_no_case(smallest, monkeypatch):
    monkeypatch.setattr(roofline._Chain, "iterate", fail(MemoryError()))
    record = smallest("smoke")
    assert [case.status for case in record.cases] == ["ok", "ok"]
    for case in record.cases:
        assert case.timing.median > 0
        assert (case.roof_share, case.note) == (None, "no roof: memory ran out with it")


def test_a_fault_in_one_group_is_not_the_next_ones(smallest, monkeypatch):
    original = engine_cases._Group._timings

    def timings(group, ready):
        if any("fused" in name for name in ready):
            raise RuntimeError("launch failure")
        return original(group, ready)

    monkeypatch.setattr(engine_cases._Group, "_timings", timings)
    found = {case.parameters["engine"]: case.status for case in smallest("sizes").cases}
    assert found == {"fused": "failed", "reference": "ok"}


def test_parity_keeps_its_pictures_small_and_names_them(smallest, tmp_path):
    (case,) = smallest("parity", tmp_path / "p", pattern="fp32").cases
    assert case.status == "ok"
    assert set(case.pictures) == {"content", "style", "reference", "output", "difference"}
    for name in case.pictures.values():
        assert 0 < (tmp_path / "p" / name).stat().st_size < 100_000
    assert case.values["final loss over the reference's"] == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("name", SUITES)
def test_every_case_names_its_weights_with_their_hash_and_its_pictures(name):
    bench = Bench(Options(quick=True, device="cpu"))
    cases = [case for job in suite(name).jobs(bench) for case in job.cases.values()]
    assert cases
    for parameters in cases:
        assert (parameters["weights"], parameters["weights_sha256"]) == ("original", SHA256)
        named = parameters.get("content"), parameters.get("style")
        wanted = (None, None) if name == "kernels" else ("tuebingen.jpg", "starry_night.jpg")
        assert named == wanted


def test_other_weights_and_pictures_are_named_in_the_case(smallest, photo, tmp_path):
    photo.save(tmp_path / "mine.png")
    options = {"content": tmp_path / "mine.png", "weights": "random:1", "pattern": "fused"}
    (case,) = smallest("smoke", **options).cases
    names = ("weights", "weights_sha256", "content", "style")
    assert [case.parameters[name] for name in names] == [
        "random:1", None, "mine.png", "starry_night.jpg"
    ]  # fmt: skip


def test_parity_has_one_case_on_random_weights(monkeypatch, tmp_path):
    monkeypatch.setattr("stylebench.bench.suites.parity._ITERATIONS", 6)
    bench = ShallowBench(Options(device="cpu", size=32, pattern="*random:*"), tmp_path)
    (case,) = run_suite(suite("parity"), bench).record.cases
    assert (case.parameters["weights"], case.parameters["weights_sha256"]) == ("random:0", None)
    assert case.parity.passed
    assert all((tmp_path / name).is_file() for name in case.pictures.values())


def test_sizes_measures_each_engine_alone(smallest):
    record = smallest("sizes", pattern="fused")
    assert [case.status for case in record.cases] == ["ok"]
    assert record.cases[0].values["megapixel iterations a second"] > 0


def test_sizes_measures_tiles_beside_the_whole(smallest, monkeypatch):
    monkeypatch.setattr(sizes, "_QUICK_ROWS", 16)
    (case,) = smallest("sizes", pattern="fused*tile*").cases
    assert (case.status, case.parameters["tile"]) == ("ok", "rows:16")
    assert case.name.endswith("32x24 history 10 tile rows:16")
    assert case.parity.passed
    assert case.roof_share is None
    bench = Bench(Options(device="cpu"))
    jobs = [list(job.cases) for job in suite("sizes").jobs(bench)]
    tiled = [sum("tile rows:256" in name for name in names) for names in jobs]
    assert tiled == [0, 1, 1, 1, 1]  # of 256 to 4096 px; the first has no more rows


def test_a_wrong_tile_gets_no_time(smallest, monkeypatch):
    monkeypatch.setattr(sizes, "_QUICK_ROWS", 16)
    original = Tiled.loss_and_grad

    def wrong(engine, image):
        terms, gradient = original(engine, image)
        return terms, gradient * 1.5

    monkeypatch.setattr(Tiled, "loss_and_grad", wrong)
    (case,) = smallest("sizes", pattern="fused*tile*").cases
    assert (case.status, case.timing) == ("parity failed", None)


def test_batch_paints_the_same_pictures_in_three_ways(smallest):
    record = smallest("batch")
    assert [case.parameters["call"] for case in record.cases] == list(batch._CALLS)
    for case in record.cases:
        assert (case.status, case.note) == ("ok", None)
        assert case.parity.passed
        assert case.parity.checks[-1].what == "values unlike a lone run's"
        assert case.timing.per_sample == case.parameters["pictures"] == 2
        assert case.values == {"pictures a minute": 60 / case.timing.median}


def test_batch_gives_no_time_to_another_picture(smallest, monkeypatch):
    def wrong(*arguments):
        return [picture + 1e-6 for picture in batch._batch(*arguments)]

    monkeypatch.setitem(batch._CALLS, "stylize_batch", wrong)
    (case,) = smallest("batch", pattern="stylize_batch*").cases
    assert (case.status, case.timing) == ("parity failed", None)
    assert case.note == "outside the tolerance: values unlike a lone run's; no time is kept"


def test_kernels_beat_nobody_without_proof(smallest):
    record = smallest("kernels", pattern="tap backward relu1_1 fp32")
    assert {case.status for case in record.cases} == {"ok"}
    assert {case.parameters["implementation"] for case in record.cases} == {
        "eager", "baddbmm", "stylekernels"
    }  # fmt: skip
    for case in record.cases:
        assert case.bytes == 3 * 64 * 24 * 32 * 4
        assert case.values["GB/s"] == pytest.approx(case.bytes / case.timing.median / 1e9)


def test_the_images_gradient_is_a_task_of_the_first_layer_on_gpus():
    assert [[name for name in kernels_suite._tap_tasks(layer, kind) if "dgrad" in name]
            for layer in ("relu1_1", "relu2_1") for kind in ("cuda", "cpu")] == [
        ["dgrad", "tap dgrad"], [], [], []
    ]  # fmt: skip
    tasks = {task.name: task for task in tap_tasks("relu1_1", (8, 12), torch.float32, CPU)}
    task, tapped = tasks["dgrad"], tasks["tap dgrad"]
    assert task.moved == (64 + 3) * 8 * 12 * 4
    assert task.flops == 2 * 9 * 64 * 3 * 8 * 12
    assert tapped.moved == (2 * 64 + 3) * 8 * 12 * 4
    assert tapped.flops == task.flops + 2 * 64 * 64 * 8 * 12
    for one in (task, tapped):
        for name in set(one.formulations) - {"compiled"}:
            assert passed(one.checks(one.formulations[name]()))


def test_kernels_say_on_what_shape_they_ran(smallest):
    (case,) = smallest("kernels", pattern="pool relu4_1 fp32*eager").cases
    assert (case.parameters["channels"], case.parameters["positions"]) == (512, 3 * 4)
    shapes = {name: loss_shape(name, (48, 64)) for name in ("content", "tv", "max pool")}
    assert shapes == {
        "content": (512, 6 * 8), "tv": (3, 48 * 64), "max pool": (64, 48 * 64),
    }  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_the_images_way_is_right_and_a_wrong_one_is_caught(dtype):
    (task,) = image_tasks((32, 48), dtype, CPU)
    right = task.formulations["stylekernels"]()
    assert all(check.passed for check in task.checks(right))
    assert task.moved == sum(x.nbytes for x in (*task.operands, *right(*task.operands)))
    wrong = task.checks(lambda *operands: tuple(x * 1.01 for x in right(*operands)))
    assert not any(check.passed for check in wrong)


def test_a_loss_moves_what_it_reads_and_its_gradient():
    tasks = {task.name: task for task in loss_tasks((48, 64), torch.float32, CPU)}
    x = tasks["content"].operands[0]
    assert tasks["content"].moved == 3 * x.nbytes  # the target is read too
    assert tasks["max pool"].moved == 2 * tasks["max pool"].operands[0].nbytes
    assert tasks["content"].flops == 0


def test_what_writes_the_operand_is_taken_off_sample_by_sample():
    writing = timing("cuda graph", [1.0, 2.0, 1.0], [1], per_sample=20)
    both = timing("cuda graph", [1.5, 2.5, 1.75], [], per_sample=20)
    found = beyond(writing, both)
    assert found.samples == [0.5, 0.5, 0.75]
    assert (found.disturbed, found.per_sample) == ([1], 20)
    assert beyond(both, writing) is None


def test_what_was_compiled_is_forgotten_between_groups(smallest, monkeypatch):
    """Else the ninth shape of a function is quietly run eagerly."""
    compiled = []

    def backend(graph, inputs):
        compiled.append(graph)
        return graph.forward

    double = torch.compile(lambda x: 2 * x, backend=backend)

    def together(group, names):
        for _ in names:
            double(torch.ones(3))
        return []

    monkeypatch.setattr(engine_cases, "ParityGate", lambda *_: None)
    monkeypatch.setattr(engine_cases._Group, "_together", together)
    smallest("sizes")
    assert len(compiled) == 2  # two engines, each alone: the second finds nothing compiled
    smallest("smoke")
    assert len(compiled) == 3  # two engines together: none is forgotten while others wait


def test_long_steps_are_announced_before_they_begin(monkeypatch):
    bench = ShallowBench(Options(quick=True, device="cpu", size=32))
    bench.plan = bench.roofline.plan = BRIEF
    (job,) = suite("smoke").jobs(bench)
    said, steps = [], []

    def spy(name):
        original = getattr(engine_cases, name)

        def spied(*arguments, **options):
            steps.append((name, said[-1]))
            return original(*arguments, **options)

        monkeypatch.setattr(engine_cases, name, spied)

    for name in ("ParityGate", "build_problem", "measure_interleaved"):
        spy(name)
    bench.progress = said.append
    (case,) = job.run(["fused fp32 32x24"])
    assert case.status == "ok"
    assert [name for name, _ in steps] == ["ParityGate", "build_problem", "measure_interleaved"]
    assert all("32x24" in line for _, line in steps)
    for (step, line), word in zip(steps, ("oracle", "building", "timing"), strict=True):
        assert word in line, step


def test_every_formulation_of_a_tap_is_right_and_a_wrong_one_is_caught():
    for task in tap_tasks("relu2_1", (32, 48), torch.float32, CPU):
        for name, make in task.formulations.items():
            if name != "compiled":
                assert all(check.passed for check in task.checks(make()))
        right = task.formulations["stylekernels"]()

        def wrong(*operands, right=right):
            return tuple(x * 1.001 for x in right(*operands))

        assert not all(check.passed for check in task.checks(wrong))


@pytest.mark.parametrize(
    ("names", "part"),
    [
        (["aten::mkldnn_convolution"], "convolutions"),
        (["stylekernels::style_tap_backward_", "aten::bmm"], "style"),
        (["stylekernels::relu_avg_pool2d", "aten::threshold"], "pooling"),
        (["stylebench optimizer", "aten::mm"], "optimizer"),
        (["stylekernels::content_loss_backward_"], "style"),
        (["stylekernels::bias_relu_"], "convolutions"),
        (["stylekernels::network_input", "aten::copy_"], "rest"),
        (["aten::add_"], "rest"),
    ],
)
def test_operators_belong_to_parts(names, part):
    assert part_of(names) == part


def test_parts_add_up_to_the_median():
    assert scaled({"rest": 1.0, "convolutions": 3.0}, 8.0) == {"convolutions": 6.0, "rest": 2.0}
    assert scaled({}, 8.0) == {}


def test_an_unknown_suite_names_the_suites(call):
    code, _, said = call("smok")
    assert code == 2
    assert said.startswith("stylebench: error: unknown suite 'smok': expected one of smoke")


def test_the_command_line_answers_without_torch(fresh_python):
    script = (
        "import sys; from stylebench.cli.app import main\n"
        "try: main()\n"
        "except SystemExit: print({'torch', 'pandas', 'numpy'} & set(sys.modules))"
    )
    said = fresh_python(script, "bench", "iteration", "--help", COLUMNS="120")
    assert said.rstrip().endswith("set()")
    for option in ("--quick", "--json", "--output", "--filter", "--seconds", "--resume"):
        assert option in said
