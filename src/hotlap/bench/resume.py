"""Go on with a bench, also with more time for each cell: then those that timed out are measured once more.

bench = resume_bench(project, None, limit_seconds=1200.0)
"""

from dataclasses import replace

from hotlap.bench.drive import OpenBench, find_bench, refuse_other_code
from hotlap.bench.plan import BenchPlan, next_repeat
from hotlap.core.bench_folder import bench_folders
from hotlap.core.study_folder import ProjectFolder
from hotlap.launch.locks import bench_lock


def resume_bench(project: ProjectFolder, name: str | None, limit_seconds: float | None = None) -> OpenBench:
    """Return a bench by its id, or the last one that can go on, with another limit for each cell where one is given.

    Raises StudyError where there is none, where it was measured on another machine or with other code, and, for
    another limit, where another process drives it.
    """
    if limit_seconds is None:
        return find_bench(project, name)
    bench = find_bench(project, name or _last_to_go_on(project, limit_seconds))
    before, plan = bench.plan.limit_seconds, replace(bench.plan, limit_seconds=limit_seconds)
    if limit_seconds > before and any(repeat.outcome == "timed_out" for repeat in bench.folder.repeats()):
        refuse_other_code(bench, project.project)  # a bench at its end is one that goes on now
    with bench_lock(bench.folder):
        bench.folder.write_plan({**bench.folder.plan(), "limit_seconds": limit_seconds})
        if limit_seconds > before:
            bench.folder.retry("timed_out")
    return replace(bench, plan=plan)


def _last_to_go_on(project: ProjectFolder, limit_seconds: float) -> str | None:
    """Return the id of the last bench that has something to measure, also what timed out within less; or None."""
    for folder in reversed(bench_folders(project.benches_path)):
        if not folder.plan_path.is_file() or folder.plan().get("study"):
            continue
        plan = BenchPlan.from_json(folder.plan())
        has_more = limit_seconds > plan.limit_seconds
        done = [repeat for repeat in folder.repeats() if not (has_more and repeat.outcome == "timed_out")]
        if next_repeat(plan, done) is not None:
            return folder.bench_id
    return None
