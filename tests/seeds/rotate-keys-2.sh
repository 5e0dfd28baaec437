# Rotate keys, section 2, "Rotate the Org CA": the block below "API equivalent", word for word.
ADMIN_SECRET="$(grep ^MCP_PROXY_ADMIN_SECRET proxy.env | cut -d= -f2)"
MASTIO="https://localhost:9443"
# Mastio-minted (the typical path)
curl -sk -X POST -H "X-Admin-Secret: $ADMIN_SECRET" \
"$MASTIO/pki/rotate-ca?mode=mint"
# Operator-supplied
curl -sk -X POST -H "X-Admin-Secret: $ADMIN_SECRET" \
-F "ca_cert=@new-org-ca.pem" \
-F "ca_key=@new-org-ca-key.pem" \
"$MASTIO/pki/rotate-ca?mode=upload"
