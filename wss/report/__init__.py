"""Reports: a result as text on the terminal and as files in a folder."""

from wss.report.run_folder import check_free, to_json, write_results
from wss.report.terminal import run_table

__all__ = ["check_free", "run_table", "to_json", "write_results"]
