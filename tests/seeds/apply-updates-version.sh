docker compose -p cullis-mastio exec mcp-proxy printenv CULLIS_MASTIO_VERSION
