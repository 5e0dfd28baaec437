docker compose -p cullis-mastio exec mcp-proxy sqlite3 /data/mcp_proxy.db \
"DELETE FROM pending_updates WHERE migration_id = '$MIGRATION_ID';"
