"""The documents' Python client (era-http-server-mode.txt), indentation restored and types added: ``client.py BASE``."""

import json
import sys
from typing import Any

import requests


class ERAAgentClient:
    def __init__(self, base_url: str = "http://localhost:8787") -> None:
        self.base_url = base_url

    def execute(self, code: str, language: str = "python", **kwargs: Any) -> Any:
        """Execute code ephemerally."""
        response = requests.post(f"{self.base_url}/api/execute", json={"code": code, "language": language, **kwargs})
        return response.json()

    def create_session(self, language: str, **kwargs: Any) -> Any:
        """Create a persistent session."""
        response = requests.post(f"{self.base_url}/api/sessions", json={"language": language, **kwargs})
        return response.json()

    def run_in_session(self, session_id: str, code: str, **kwargs: Any) -> Any:
        """Run code in existing session."""
        response = requests.post(f"{self.base_url}/api/sessions/{session_id}/run", json={"code": code, **kwargs})
        return response.json()


client = ERAAgentClient(sys.argv[1])
result = client.execute("print('Hello!')", "python")
session = client.create_session("python", cpu_count=2)
session_id = session["id"]
result1 = client.run_in_session(session_id, "x = 42")
result2 = client.run_in_session(session_id, "print(x * 2)")
print(json.dumps([result, session, result1, result2]))
