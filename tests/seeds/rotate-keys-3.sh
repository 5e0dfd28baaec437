# Rotate keys, section 3, "Remediate a legacy Org CA": the block below "Detect", word for word.
curl -sk https://localhost:9443/healthz | jq '.warnings // []'
# [] on a clean Mastio
# ["org_ca_legacy_pathlen_zero"] on a legacy one
