"""Enrols an agent with a certificate of its own by the SDK, then logs in and calls as that agent.

The last line of the output is JSON: {"refused": text}, or {"peers": [agent id, ...]}.
"""

import json
import sys

from cullis_sdk import CullisClient

url, admin_secret, agent_id, folder = sys.argv[1:]
org, name = agent_id.split("::")


def read(file):
    with open(f"{folder}/{file}") as text:
        return text.read()


try:
    CullisClient.enroll_via_byoca(
        url,
        admin_secret=admin_secret,
        agent_name=name,
        cert_pem=read("cert.pem"),
        private_key_pem=read("key.pem"),
        persist_to=f"{folder}/identity",
        ca_chain_path=f"{folder}/ca.pem",
    )
except PermissionError as refused:
    result = {"refused": str(refused)}
else:
    agent = CullisClient.from_identity_dir(
        url,
        cert_path=f"{folder}/identity/cert.pem",
        key_path=f"{folder}/identity/key.pem",
        agent_id=agent_id,
        org_id=org,
        ca_chain_path=f"{folder}/ca.pem",
    )
    agent.login_via_proxy_with_local_key()
    assert agent.token, "no token after the login"
    result = {"peers": [peer.agent_id for peer in agent.list_peers()]}
print(json.dumps(result))
