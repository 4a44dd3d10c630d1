#!/bin/bash
# Ray on one node of an allocation, started by srun from prefixprop.sbatch: the first one is the head.
set -euo pipefail

free_port() {
  python -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])'
}

# Two allocations may share a node, so no port is Ray's default.
AGENT_PORT=$(free_port)
if [ "$SLURM_PROCID" = 0 ]; then
  CLIENT_PORT=$(free_port)
  ray start --head --block --disable-usage-stats --node-ip-address="$HEAD_ADDRESS" \
    --port="$HEAD_PORT" --dashboard-host="$HEAD_ADDRESS" --dashboard-port="$DASHBOARD_PORT" \
    --dashboard-agent-listen-port="$AGENT_PORT" --ray-client-server-port="$CLIENT_PORT" \
    --min-worker-port=0 --max-worker-port=0 --num-cpus="$SLURM_CPUS_PER_TASK" &
else
  until ray health-check --address="$HEAD_ADDRESS:$HEAD_PORT" > /dev/null 2>&1; do sleep 2; done
  ray start --address="$HEAD_ADDRESS:$HEAD_PORT" --block \
    --dashboard-agent-listen-port="$AGENT_PORT" --min-worker-port=0 --max-worker-port=0 \
    --num-cpus="$SLURM_CPUS_PER_TASK" &
fi
RAY=$!
trap 'kill "$RAY" 2> /dev/null' TERM INT
wait "$RAY" || true # ends early when a signal comes
wait "$RAY" || true
rm -rf "$RAY_TMPDIR"
