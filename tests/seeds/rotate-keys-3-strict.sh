# Rotate keys, section 3, the block below "Optional: fail fast on legacy PKI", word for word.
echo 'MCP_PROXY_STRICT_PKI=1' >> proxy.env
./deploy.sh --pull
# Logs: "MCP_PROXY_STRICT_PKI=1 refuses boot on legacy Org CA. Run POST /pki/rotate-ca."
