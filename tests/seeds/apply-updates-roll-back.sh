curl -sk -X POST "$MASTIO/proxy/updates/$MIGRATION_ID/rollback" \
-H "X-Admin-Secret: $ADMIN_SECRET" \
-H "Content-Type: application/json" \
-d '{"confirm": true}'
