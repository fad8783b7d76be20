"""Reports: a result as text on the terminal and as files in a folder."""

from wss.report.run_folder import check_free, to_json

__all__ = ["check_free", "to_json"]
