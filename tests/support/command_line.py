"""The command `airflow-ops` in this process: to start Python and import its libraries takes two seconds each time."""

import subprocess
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from unittest.mock import patch

from airflow_ops.cli import main


def airflow_ops(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`airflow-ops ARGUMENTS` with the environment variables of this process, as a pipe of 80 columns sees it."""
    out, err = StringIO(), StringIO()
    command = ["airflow-ops", *arguments]
    with (
        redirect_stdout(out),
        redirect_stderr(err),
        patch("sys.argv", command),
        patch.dict("os.environ", {"COLUMNS": "80"}),
    ):
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return subprocess.CompletedProcess(command, code, out.getvalue(), err.getvalue())
