# Rotate keys, section 1, "Rotate an agent cert": the block below "From the API", word for word.
ADMIN_SECRET="$(grep ^MCP_PROXY_ADMIN_SECRET proxy.env | cut -d= -f2)"
MASTIO="https://localhost:9443"
AGENT_ID="orga::kyc-screener"
curl -sk -X POST -H "X-Admin-Secret: $ADMIN_SECRET" \
"$MASTIO/registry/agents/$AGENT_ID/rotate-cert" \
> rotated-cert.json
jq -r .cert_pem rotated-cert.json > cert.pem
jq -r .key_pem rotated-cert.json > agent-key.pem
chmod 0600 cert.pem agent-key.pem
