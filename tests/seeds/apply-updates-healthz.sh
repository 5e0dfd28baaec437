curl -sk https://localhost:9443/healthz | jq
