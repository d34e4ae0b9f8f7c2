"""The whole line on drawn building fronts: draw, curate, train, export, run on a drawn fly-by. Only a script."""

from pathlib import Path

from deploy.cli import main as detect
from pipeline.curating import curate_sets, curation_text
from pipeline.errors import UserError, refuse
from pipeline.experiment import read_experiment
from pipeline.exporting import export_best
from pipeline.interrupt import Interrupted
from pipeline.progress import Bars
from pipeline.reporting import report_or_say
from pipeline.synthetic.flyby import draw_flyby
from pipeline.synthetic.fronts import draw_fronts
from pipeline.train.processes import this_process
from pipeline.training import tables_text, train_trials, write_tables
from pipeline.workspace import Workspace

__all__ = ["run_demo"]

_PICTURES = 600
_FRAMES = 150
_SEED = 0


def run_demo(root: Path) -> None:
    """Run the demo into `root`; what is there already is kept and reused, so that a broken run goes on.

    Raises:
        UserError: there is no experiments/demo.yaml, or what a step of it raises.
    """
    file = Path(__file__).resolve().parents[1] / "experiments" / "demo.yaml"
    if not file.exists():
        raise refuse(file, "no such file", "run the demo from a checkout of Skylight")
    workspace = Workspace(root)
    fronts, video = root / "fronts", root / "flyby.mp4"
    experiment = read_experiment(file)
    data = {key: source.model_copy(update={"source": fronts}) for key, source in experiment.data.items()}
    experiment = experiment.model_copy(update={"data": data})
    with Bars() as bars:
        if not fronts.exists():
            draw_fronts(fronts, _PICTURES, _SEED, progress=lambda done: bars.show("draw fronts", done, _PICTURES))
        if not video.exists():
            draw_flyby(video, _FRAMES, _SEED, progress=lambda done: bars.show("draw the fly-by", done, _FRAMES))
        summaries = curate_sets(experiment, workspace, bars)
        plan = train_trials(experiment, workspace, bars, this_process())
        bundle = export_best(experiment, workspace, bars)
    for summary in summaries:
        print(curation_text(summary))
    print()
    print(tables_text(experiment, write_tables(experiment, plan, workspace), workspace))
    out = root / "flight"
    status = detect(["--bundle", str(bundle.root), "--source", str(video), "--out", str(out), "--quiet"])
    if status == 130:
        raise Interrupted("everything but the flight is kept; the same command goes on from there")
    if status:
        raise UserError(f"{video}: the bundle could not be run on it; see the line above")
    print(f"annotated video: {out / 'annotated.mp4'}")
    print(f"detections:      {out / 'detections.jsonl'}")
    print(f"plots:           {workspace.stage(experiment.name, 'target') / 'ap.png'}")
    print(f"weights:         {workspace.stage(experiment.name, 'target')}/*/best.weights")
    print(f"bundle:          {bundle.root}")
    page = report_or_say(experiment, Path("experiments", file.name), workspace)
    if page is not None:
        print(f"report:          {page}")
