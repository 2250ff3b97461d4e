import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from aisandbox_process.fork_server import CRASHED, ForkedProcess, ForkServer
from waiting import wait_until

SUPPORT = Path(__file__).parents[2] / "support"

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs fork")


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    yield from running_server()


@pytest.fixture
def dying_server() -> Iterator[ForkServer]:
    """One that the test ends."""
    yield from running_server()


def running_server() -> Iterator[ForkServer]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join((str(SUPPORT), os.environ.get("PYTHONPATH", ""))))
        server = ForkServer(["forked_functions"])
        server.start()
    waiting = threading.Thread(target=server.wait)
    waiting.start()
    yield server
    server.kill()
    waiting.join()


def fork(server: ForkServer, function: str, *arguments: object, log: Path) -> ForkedProcess:
    with log.open("ab") as output:
        return server.fork(f"forked_functions:{function}", arguments, output.fileno())


def exit_code(server: ForkServer, function: str, *arguments: object, log: Path) -> int | None:
    process = fork(server, function, *arguments, log=log)
    try:
        return process.read_exit_code()
    finally:
        process.close()


def test_fork_server_has_loaded_its_preload_before_it_forks(server: ForkServer, tmp_path: Path) -> None:
    assert exit_code(server, "check", log=tmp_path / "log") == 0


def test_forked_process_ends_with_the_result_of_its_function(server: ForkServer, tmp_path: Path) -> None:
    assert exit_code(server, "end_with", 255, log=tmp_path / "log") == 255
    assert sorted((tmp_path / "log").read_text().splitlines()) == ["ends with 255", "on stderr"]


def test_forked_process_that_raises_ends_with_a_traceback(server: ForkServer, tmp_path: Path) -> None:
    assert exit_code(server, "raise_error", log=tmp_path / "log") == CRASHED
    assert "KeyError: 'a fault'" in (tmp_path / "log").read_text()


def test_function_that_does_not_exist_is_named_in_the_output(server: ForkServer, tmp_path: Path) -> None:
    assert exit_code(server, "nothing", log=tmp_path / "log") == CRASHED
    assert "nothing" in (tmp_path / "log").read_text()


def test_killed_process_has_the_exit_code_of_its_signal(server: ForkServer, tmp_path: Path) -> None:
    assert exit_code(server, "kill_itself", log=tmp_path / "log") == 128 + signal.SIGKILL


def test_arguments_larger_than_a_pipe_arrive(server: ForkServer, tmp_path: Path) -> None:
    assert exit_code(server, "count_characters", "x" * 3_000_000, log=tmp_path / "log") == 3


def test_forked_process_leads_a_group_of_its_own(server: ForkServer, tmp_path: Path) -> None:
    assert exit_code(server, "tell_group", log=tmp_path / "log") == 0


def test_forked_process_sees_that_the_program_is_gone(server: ForkServer, tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = fork(server, "wait_for_parent", log=log)
    wait_until(log.read_text, lambda text: "waits" in text, every=0.01)
    process.close()
    wait_until(log.read_text, lambda text: "parent is gone" in text, every=0.01)


def test_sigterm_before_there_is_a_handler_is_kept(server: ForkServer, tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = fork(server, "handle_pending_sigterm", log=log)
    wait_until(log.read_text, lambda text: "waits" in text, every=0.01)
    os.kill(process.pid, signal.SIGTERM)
    assert process.read_exit_code() == 9
    process.close()


def test_fork_server_ignores_ctrl_c_and_sigterm(dying_server: ForkServer, tmp_path: Path) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(dying_server.pid, number)
    assert exit_code(dying_server, "end_with", 0, log=tmp_path / "log") == 0


def test_processes_keep_running_when_the_fork_server_is_killed(dying_server: ForkServer, tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = fork(dying_server, "wait_for_parent", log=log)
    wait_until(log.read_text, lambda text: "waits" in text, every=0.01)
    dying_server.kill()
    assert process.read_exit_code() is None
    assert "parent is gone" not in log.read_text()
    process.close()
    wait_until(log.read_text, lambda text: "parent is gone" in text, every=0.01)


def test_fork_by_a_killed_server_is_refused(dying_server: ForkServer, tmp_path: Path) -> None:
    exit_code(dying_server, "end_with", 0, log=tmp_path / "log")
    dying_server.kill()
    wait_until(lambda: dying_server.has_ended, every=0.01)
    with pytest.raises((FileNotFoundError, ConnectionRefusedError)):  # its socket may be there a moment longer
        fork(dying_server, "end_with", 0, log=tmp_path / "log")


def test_program_without_main_guard_is_not_imported_by_its_forks(tmp_path: Path) -> None:
    """multiprocessing.Process would run the whole script again in each child."""
    script = tmp_path / "service.py"
    script.write_text(
        "import sys\n"
        "from aisandbox_process.fork_server import ForkServer\n"
        "print('script runs', flush=True)\n"
        "server = ForkServer(['forked_functions'])\n"
        "server.start()\n"
        "process = server.fork('forked_functions:end_with', [4], sys.stdout.fileno())\n"
        "print('exit code', process.read_exit_code())\n"
    )
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join((str(SUPPORT), os.environ.get("PYTHONPATH", "")))}
    result = subprocess.run([sys.executable, str(script)], env=environ, capture_output=True, text=True, timeout=60)
    lines = [line for line in result.stdout.splitlines() if line != "on stderr"]
    assert lines == ["script runs", "ends with 4", "exit code 4"]
    assert result.stderr == ""
