"""The command line: ``stylebench stylize | demo | compare | bench | report | ...``."""

from __future__ import annotations

import shlex
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from stylebench import signals
from stylebench.cli import interrupted, options
from stylebench.cli.bench import app as bench
from stylebench.cli.errors import is_first, leave, tell, told_once
from stylebench.cli.figure import app as figure
from stylebench.cli.options import Command, option
from stylebench.cli.parsing import (
    mask_files,
    naming_options,
    parse_layers,
    parse_numbers,
    parse_scales,
    parse_sides,
    parse_size,
    parse_tile,
    with_options,
)
from stylebench.files.paths import exists, expand
from stylebench.files.writing import check_folder, check_writable

if TYPE_CHECKING:
    from stylebench.cli.destinations import Destinations
    from stylebench.transfer.settings import Settings

# torch takes seconds to load: everything that needs it is imported where it is used, so that
# --help and a mistyped option answer at once.

_EXIT_CODES = (
    "Exit codes: 0 done; 2 an error; 3 the loss hardly fell; 4 the picture could not be written "
    "where it was asked for, and a line says where it is; 130, 143, 129 interrupted by SIGINT, "
    "SIGTERM, SIGHUP. Whatever ends a run, its best image so far is saved. The button of --view "
    "ends it with 0: that was asked for."
)


_BATCH_EXIT_CODES = (
    "Exit codes: 0 done; 1 a picture failed, and a line names it; 2 an error before the first; "
    "130, 143, 129 interrupted: what is done is kept."
)


#: Setting -> how its option is read.
_PARSERS: Mapping[str, Callable[[Any], Any]] = {
    "content_layers": partial(parse_layers, "--content-layers"),
    "style_layers": partial(parse_layers, "--style-layers"),
    "size": parse_size,
    "scales": parse_scales,
    "tile": parse_tile,
    "style_weights": partial(parse_numbers, "--style-weights"),
}


class _Commands(TyperGroup):
    """Tells which command takes pictures to one who has typed none, and which signal came."""

    # typer would end with 130 and no word, whatever the signal
    def make_context(self, *arguments: Any, **options: Any) -> Any:
        with _telling_of_signals(), told_once():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: Any) -> Any:
        with _telling_of_signals():
            signals.begin()
            return super().invoke(ctx)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        with told_once():
            return super().resolve_command(ctx, args)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        command = super().get_command(ctx, cmd_name)
        if command is None and (Path(cmd_name).suffix or exists(expand(cmd_name))):
            typed = shlex.join(sys.argv[1:])
            raise ValueError(
                f"No such command {cmd_name!r}: for pictures it is 'stylebench stylize {typed}'"
            )
        return command


app = typer.Typer(
    cls=_Commands,
    help="Neural style transfer by Gatys et al., verified and measured.",
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(bench, name="bench")
app.add_typer(figure, name="figure")


Content = Annotated[
    Path, typer.Argument(help="The image to repaint; - is standard input.", show_default=False)
]
StyleImages = Annotated[
    list[Path],
    typer.Argument(help="One or more images, or folders of them.", show_default=False),
]
Output = Annotated[
    Path,
    typer.Option(
        "--output", "-o", help="Where to write: .png, .jpg, .webp or .tiff; - is standard output."
    ),
]


@app.command(cls=Command, epilog=_EXIT_CODES)
def stylize(
    content: Content,
    style: StyleImages,
    output: Output = Path("out.png"),
    preset: options.Preset = "gatys-pytorch",
    size: Annotated[
        str | None, option("Longest side, px, or content: its own.", "--size", "-s", by_preset=True)
    ] = None,
    iterations: Annotated[
        int | None, option("Function evaluations.", "--iterations", "-n", by_preset=True)
    ] = None,
    style_weights: options.StyleWeights = None,
    style_scale: options.StyleScale = 1.0,
    color: options.Color = "style",
    content_layers: Annotated[
        str | None, option("As relu4_2 or conv2_2=1,relu4_2=0.5.", by_preset=True)
    ] = None,
    style_layers: options.StyleLayers = None,
    content_weight: options.ContentWeight = None,
    style_weight: options.StyleWeight = None,
    tv_weight: options.TvWeight = None,
    pooling: options.Pooling = None,
    normalize: Annotated[
        bool | None,
        option(
            "Rescale to mean activation 1 (the paper).",
            "--normalize/--no-normalize",
            "--normalise/--no-normalise",
            by_preset=True,
        ),
    ] = None,
    seamless: options.Seamless = False,
    weights: options.Weights = "auto",
    engine: options.Engine = "auto",
    precision: options.Precision = "auto",
    polish: Annotated[
        int | None, option("Iterations at the end in fp32.", show_default="what bf16 needs")
    ] = None,
    scales: options.Scales = "auto",
    optimizer: options.Optimizer = "auto",
    history: options.History = None,
    history_dtype: options.HistoryDtype = None,
    learning_rate: Annotated[
        float | None, option("Step length.", show_default="1 for lbfgs, 0.02 for adam")
    ] = None,
    tolerance_grad: Annotated[float, option("L-BFGS stops below this gradient.")] = -1.0,
    tolerance_change: Annotated[float, option("L-BFGS stops below this change.")] = -1.0,
    init: options.Init = None,
    masks: options.Masks = None,
    seed: options.Seed = 0,
    tile: options.Tile = "auto",
    device: options.Device = None,
    distributed: Annotated[
        bool, option("Share the picture with the other processes of torchrun.", "--distributed")
    ] = False,
    bit_depth: options.BitDepth = 8,
    losses: options.Losses = None,
    preview_every: options.PreviewEvery = 0,
    checkpoint: options.Checkpoint = None,
    checkpoint_every: options.CheckpointEvery = 50,
    resume: options.Resume = None,
    overwrite: options.Overwrite = False,
    dry_run: options.DryRun = False,
    view: options.View = False,
    video: options.Video = None,
    video_fps: options.VideoFps = 30,
    video_seconds: options.VideoSeconds = 10.0,
    quiet: options.Quiet = False,
) -> None:
    """Repaint CONTENT in the manner of STYLE."""
    with signals.importing():
        from stylebench.cli.destinations import check_destinations
        from stylebench.cli.inputs import typed_inputs
        from stylebench.cli.pipes import stdout_for_picture
        from stylebench.cli.plan import dry_table
        from stylebench.cli.processes import check_shareable, device_of, sharing
        from stylebench.cli.stylize import stylize_files
        from stylebench.cli.view import viewed
        from stylebench.transfer.init import is_named

    if distributed:
        quiet, device = quiet or not is_first(), device_of(device)
    arguments = locals()
    with sharing(distributed, device) as ranks:
        with ranks.agreeing():
            if distributed:
                check_shareable(view=view, video=video, pictures=[content, *style], output=output)
            settings, to = _settings(arguments), _wanted(arguments)
            typed = typed_inputs(content, style)
            inputs = {
                **typed.files,
                "the init": [] if init is None or is_named(init) else [Path(init)],
                "a mask": mask_files(settings.masks),
                "the weights": [Path(weights)],
            }
            longest = typed.longest_side() if size == "content" else settings.resolved_preset().size
            if ranks.first:
                with naming_options(["bit_depth"]):
                    to = check_destinations(to, inputs, resume, longest, overwrite)
        with naming_options(_own(arguments)), stdout_for_picture(to.is_stdout) as stdout:
            if dry_run:
                table = dry_table(typed.content, typed.styles, settings, ranks)
                if ranks.first:
                    typer.echo(table, err=to.is_stdout)
                return
            to = replace(to, stdout=stdout)
            title = f"{content.name} in the manner of {_names(style)}"
            with viewed(title if view else None) as page:
                stylize_files(
                    typed.content, typed.styles, settings, to, checkpoint_every, resume, quiet,
                    page, ranks.first,
                )  # fmt: skip


@app.command(cls=Command, epilog=_EXIT_CODES)
def texture(
    style: StyleImages,
    output: Output = Path("out.png"),
    size: Annotated[
        str, option("Side of the square, px, or width x height as 512x320.", "--size", "-s")
    ] = "512",
    seamless: options.Seamless = False,
    preset: options.Preset = "gatys-pytorch",
    iterations: Annotated[
        int | None, option("Function evaluations.", "--iterations", "-n", by_preset=True)
    ] = None,
    style_weights: options.StyleWeights = None,
    style_scale: options.StyleScale = 1.0,
    style_layers: options.StyleLayers = None,
    style_weight: options.StyleWeight = None,
    tv_weight: options.TvWeight = None,
    pooling: Annotated[str | None, option("average or max.", show_default="average")] = None,
    weights: options.Weights = "auto",
    engine: options.Engine = "auto",
    precision: options.Precision = "auto",
    scales: options.Scales = "auto",
    optimizer: options.Optimizer = "auto",
    history: options.History = None,
    history_dtype: options.HistoryDtype = None,
    seed: options.Seed = 0,
    tile: options.Tile = "auto",
    device: options.Device = None,
    bit_depth: options.BitDepth = 8,
    losses: options.Losses = None,
    preview_every: options.PreviewEvery = 0,
    checkpoint: options.Checkpoint = None,
    checkpoint_every: options.CheckpointEvery = 50,
    resume: options.Resume = None,
    overwrite: options.Overwrite = False,
    dry_run: options.DryRun = False,
    view: options.View = False,
    video: options.Video = None,
    video_fps: options.VideoFps = 30,
    video_seconds: options.VideoSeconds = 10.0,
    quiet: options.Quiet = False,
) -> None:
    """Paint a texture that looks like STYLE everywhere, from noise."""
    with signals.importing():
        from stylebench.cli.destinations import check_destinations
        from stylebench.cli.inputs import typed_styles
        from stylebench.cli.pipes import stdout_for_picture
        from stylebench.cli.plan import dry_table
        from stylebench.cli.stylize import stylize_files
        from stylebench.cli.view import viewed
        from stylebench.transfer.texture import texture_run

    sides = parse_sides(size)
    arguments = {**locals(), "size": str(max(sides))}
    settings, to = _settings(arguments), _wanted(arguments)
    styles, files = typed_styles(style)
    inputs = {"a style": files, "the weights": [Path(weights)]}
    with naming_options(["bit_depth"]):
        to = check_destinations(to, inputs, resume, max(sides), overwrite)
    with naming_options(_own(arguments)), stdout_for_picture(to.is_stdout) as stdout:
        run = texture_run(styles, sides, settings)
        if dry_run:
            typer.echo(dry_table(run.canvas, run.styles, run.settings), err=to.is_stdout)
            return
        to = replace(to, stdout=stdout)
        title = f"a texture of {_names(style)}"
        with viewed(title if view else None) as page:
            stylize_files(
                run.canvas, run.styles, run.settings, to, checkpoint_every, resume, quiet, page
            )


@app.command(cls=Command, epilog=_BATCH_EXIT_CODES)
def batch(
    contents: Annotated[
        list[Path], typer.Argument(help="Images, and folders of them.", show_default=False)
    ],
    style: Annotated[
        list[Path],
        option("An image, or a folder of them, for the style; may be given twice.", "--style"),
    ],
    output: Annotated[Path, option("Folder for the pictures.", "--output", "-o")] = Path("out"),
    preset: options.Preset = "gatys-pytorch",
    size: Annotated[
        str | None, option("Longest side, px, or content: its own.", "--size", "-s", by_preset=True)
    ] = None,
    iterations: Annotated[
        int | None, option("Function evaluations.", "--iterations", "-n", by_preset=True)
    ] = None,
    style_weights: options.StyleWeights = None,
    style_scale: options.StyleScale = 1.0,
    color: options.Color = "style",
    content_weight: options.ContentWeight = None,
    style_weight: options.StyleWeight = None,
    tv_weight: options.TvWeight = None,
    pooling: options.Pooling = None,
    seamless: options.Seamless = False,
    weights: options.Weights = "auto",
    engine: options.Engine = "auto",
    precision: options.Precision = "auto",
    scales: options.Scales = "auto",
    optimizer: options.Optimizer = "auto",
    history: options.History = None,
    history_dtype: options.HistoryDtype = None,
    init: options.Init = None,
    masks: options.Masks = None,
    seed: options.Seed = 0,
    tile: options.Tile = "auto",
    device: options.Device = None,
    suffix: Annotated[str, option("Of the pictures: .png, .jpg, .webp or .tiff.")] = ".png",
    skip_existing: Annotated[
        bool, option("Leave out what is in the folder already.", "--skip-existing")
    ] = False,
    warm_start: Annotated[
        bool, option("Begin each picture from the one before, as of a clip.", "--warm-start")
    ] = False,
    quiet: Annotated[bool, option("Print nothing but errors.", "--quiet", "-q")] = False,
) -> None:
    """Repaint many images in one style, each saved as it is done; shared under torchrun."""
    with signals.importing():
        from stylebench.cli.batch import batch_files

    arguments = locals()
    with told_once():
        settings = _settings(arguments)
    with naming_options(_own(arguments)):
        batch_files(
            contents, style, output, settings, suffix=suffix, skip_existing=skip_existing,
            warm_start=warm_start, quiet=quiet,
        )  # fmt: skip


@app.command(cls=Command)
def demo(
    output: Annotated[Path, option("Folder for the pictures.", "--output", "-o")] = Path("out"),
    size: Annotated[int, option("Longest side, px.")] = 256,
    iterations: Annotated[int, option("Function evaluations.")] = 64,
    weights: options.Weights = "original",
) -> None:
    """Paint two pictures, transfer the style of one to the other, show how the loss fell."""
    arguments = locals()
    with signals.importing():
        from stylebench.cli.demo import run_demo

    with naming_options(_own(arguments)):
        run_demo(output, size, iterations, weights)


@app.command(cls=Command)
def compare(
    content: Annotated[
        Path | None,
        typer.Argument(help="As for stylize; an example if absent.", show_default=False),
    ] = None,
    style: Annotated[
        list[Path] | None,
        typer.Argument(help="As for stylize; an example if absent.", show_default=False),
    ] = None,
    engines: Annotated[str, option("Engines to hold against the reference.")] = "fused",
    precision: Annotated[
        list[str] | None,
        option("As for stylize; may be given several times.", show_default="auto"),
    ] = None,
    preset: options.Preset = "gatys-pytorch",
    pooling: options.Pooling = None,
    weights: options.Weights = "original",
    size: Annotated[
        int | None, option("Longest side, px.", "--size", "-s", show_default="256")
    ] = None,
    iterations: Annotated[
        int | None, option("Evaluations.", "--iterations", "-n", show_default="100")
    ] = None,
    optimizer: options.Optimizer = "auto",
    history: options.History = None,
    init: options.Init = None,
    seed: options.Seed = 0,
    device: options.Device = None,
    output: Annotated[
        Path, option("Folder for strip.png and compare.json.", "--output", "-o")
    ] = Path("out/compare"),
    quick: Annotated[
        bool, option("128 px and 30 iterations, where none are given.", "--quick")
    ] = False,
) -> None:
    """Hold engines against the fp64 reference; exit code 1 outside the tolerance."""
    arguments = locals()
    from stylebench.cli.compare import compare_visibly
    from stylebench.transfer.settings import Settings

    choices = {name: arguments[name] for name in _own(arguments)}
    defaults = {"size": 128, "iterations": 30} if quick else {"size": 256, "iterations": 100}
    choices |= {name: value for name, value in defaults.items() if choices[name] is None}
    with naming_options(choices):
        settings = Settings(**{**choices, "precision": "auto"})
        wanted = [
            replace(settings, engine=engine.strip(), precision=name)
            for engine in engines.split(",")
            for name in precision or ["auto"]
        ]
        passed = compare_visibly(content, style, wanted, output)
    raise typer.Exit(0 if passed else 1)


@app.command()
def presets() -> None:
    """List the variants of the algorithm with their numbers."""
    from stylebench.cli.presets import presets_table

    typer.echo(presets_table())


@app.command(cls=Command)
def report(
    paths: Annotated[
        list[Path], typer.Argument(help="Records, or folders of them.", show_default=False)
    ],
    output: Annotated[Path, option("Folder for index.html.", "--output", "-o")] = Path("report"),
    readme: Annotated[
        Path | None, option("Rewrite this file's table of results too.", show_default=False)
    ] = None,
) -> None:
    """Make one page of benchmark records: charts, tables, pictures, and where all come from."""
    from stylebench.bench.report.page import write_report
    from stylebench.bench.report.readme import rewrite_readme, split_readme

    output = check_folder(output)
    if readme:
        readme = check_writable(readme)
        split_readme(readme)  # refuses what cannot be, before the page is made
    typer.echo(write_report(paths, output, tell))
    if readme:
        typer.echo(rewrite_readme(readme, paths))


@app.command()
def doctor(
    size: Annotated[
        int | None,
        option("Show the plan of a run of this size, in px, as well.", "--size", "-s", min=1),
    ] = None,
) -> None:
    """Show versions, devices and weights, and what a run would use."""
    from stylebench.cli.doctor import report

    typer.echo(report(size))


def _version(value: bool) -> None:
    if value:
        from stylebench.version import __version__

        typer.echo(f"stylebench {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_version, is_eager=True),
    ] = False,
) -> None:
    pass


def _settings(arguments: Mapping[str, Any]) -> Settings:
    """The settings among a command's ``arguments``; warnings are told from here on, as it asks.

    Raises:
        ValueError: an option that cannot be, by its name.
    """
    from stylebench.transfer.settings import Settings

    warnings.showwarning = _no_warning if arguments["quiet"] else _warn
    choices = {name: arguments[name] for name in _own(arguments)}
    choices |= {name: parse(choices[name]) for name, parse in _PARSERS.items() if name in choices}
    with naming_options(choices):
        return Settings(**choices)


def _own(arguments: Mapping[str, Any]) -> list[str]:
    """The names of settings among a command's ``arguments``."""
    from stylebench.transfer.settings import Settings

    return [name for name in vars(Settings()) if name in arguments]


def _wanted(arguments: Mapping[str, Any]) -> Destinations:
    """The destinations among a command's ``arguments``, not yet checked.

    Raises:
        ValueError: numbers of iterations that cannot be.
    """
    from stylebench.cli.destinations import Destinations
    from stylebench.cli.previews import Previews
    from stylebench.transfer.values import whole
    from stylebench.watch.film import Film

    whole("--preview-every", arguments["preview_every"], least=0)
    whole("--checkpoint-every", arguments["checkpoint_every"])
    output, video = expand(arguments["output"]), arguments["video"]
    return Destinations(
        output,
        arguments["bit_depth"],
        arguments["losses"],
        arguments["checkpoint"],
        Previews(output, arguments["preview_every"], arguments["overwrite"]),
        Film(video, arguments["video_fps"], arguments["video_seconds"]) if video else None,
    )


def _names(paths: Sequence[Path]) -> str:
    return ", ".join(path.name for path in paths)


def _warn(message: Warning | str, *_: object, **__: object) -> None:
    """Print a warning, which names options."""
    tell(f"warning: {with_options(str(message))}")


def _no_warning(*_: object, **__: object) -> None:
    """Say nothing."""


@contextmanager
def _telling_of_signals() -> Iterator[None]:
    """End a command that had nothing to save."""
    try:
        yield
    except (KeyboardInterrupt, typer.Abort) as error:
        tell(interrupted())
        leave(error)


def main() -> None:
    """Run the command line; errors are one line on stderr and exit code 2."""
    warnings.showwarning = _warn
    try:
        with _telling_of_signals():
            code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
    except Exception as error:
        leave(error)
    sys.exit(code if isinstance(code, int) else 0)
