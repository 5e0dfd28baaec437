"""Enrols by the SDK with an approval of the operator, then logs in and calls as the agent that it became.

The last line of the output is JSON: {"peers": [agent id, ...]}.
"""

import json
import sys

from cullis_sdk import CullisClient

url, folder = sys.argv[1:]

agent = CullisClient.enroll_via_dashboard_approval(
    url,
    requester_name="Dora Device",
    requester_email="dora@example.com",
    save_to=f"{folder}/identity",
    poll_interval_s=0.2,
    timeout_s=30,
    ca_chain_path=f"{folder}/ca.pem",
)
agent.login_via_proxy_with_local_key()
assert agent.token, "no token after the login"
print(json.dumps({"peers": [peer.agent_id for peer in agent.list_peers()]}))
