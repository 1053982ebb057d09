#!/bin/sh
# Ask through Ratchet, keep the record id of the answer, vote with it. Needs curl.
#   RATCHET_URL=http://127.0.0.1:8080 sh examples/curl/chat.sh
set -eu
RATCHET_URL=${RATCHET_URL:-http://127.0.0.1:8080}

headers=$(mktemp)
trap 'rm -f "$headers"' EXIT

curl --silent --show-error --fail-with-body --dump-header "$headers" "$RATCHET_URL/v1/chat/completions" \
  -H 'content-type: application/json' \
  -H 'x-user-id: ann' \
  -d '{"model": "any", "messages": [{"role": "user", "content": "I feel tired."}]}'
echo

record_id=$(sed -n 's/^x-ratchet-record-id: *//Ip' "$headers" | tr -d '\r')

curl --silent --show-error --fail-with-body "$RATCHET_URL/-/feedback" \
  -d "{\"record_id\": \"$record_id\", \"feedback\": 1, \"source\": \"ann\"}"
echo
