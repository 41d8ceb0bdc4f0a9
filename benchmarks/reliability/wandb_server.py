"""A W&B server on this machine: it keeps what it is sent, and falls silent when told to."""

import gzip
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, Self

KEY = 40 * "a"  # of the form that W&B accepts
FILE_STREAM = "file_stream"


class WandBServer:
    """Answers as much of W&B's protocol as a run and `wandb sync` need.

    Args:
        answers: "all" requests, "none", or those "until accepted": until a run was opened.
    """

    def __init__(self, answers: Literal["all", "none", "until accepted"]) -> None:
        self.rows: list[dict[str, Any]] = []  # of the history, in the order of arrival
        self.names: list[str] = []  # ids of the runs that were opened
        self.asked = 0
        self._silent = answers == "none"
        self._then_silent = answers == "until accepted"
        self._closing = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                server.asked += 1
                if server._silent:
                    server._closing.wait()
                    return
                content = json.dumps({"data": server._answer(self.path, body)}).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._http.shutdown()
        self._http.server_close()

    def _answer(self, path: str, body: bytes) -> dict[str, Any]:
        if path.endswith(FILE_STREAM):
            history = json.loads(body).get("files", {}).get("wandb-history.jsonl", {})
            self.rows += [json.loads(row) for row in history.get("content", [])]
            return {}
        if not path.endswith("graphql"):
            return {}
        asked = json.loads(body)
        match asked.get("operationName"):
            case "UpsertBucket":
                return self._open(asked["variables"]["name"])
            case "RunResumeStatus":
                return {"model": {"id": "", "name": "", "entity": _entity(), "bucket": None}}
            case "CreateRunFiles":
                return {"createRunFiles": {"runID": "", "uploadHeaders": [], "files": []}}
            case _:
                return {"entity": {"organization": None}, "serverInfo": {"features": []}}

    def _open(self, name: str) -> dict[str, Any]:
        self.names.append(name)
        self._silent = self._then_silent
        project = {"id": "", "name": "metalit", "entity": _entity()}
        bucket = {
            "id": "",
            "name": name,
            "displayName": name,
            "config": "{}",
            "historyLineCount": 0,
            "project": project,
        }
        return {"upsertBucket": {"bucket": bucket, "inserted": True}}


def _entity() -> dict[str, str]:
    return {"id": "", "name": "someone"}
