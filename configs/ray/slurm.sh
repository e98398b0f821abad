#!/usr/bin/env bash
# A Ray cluster with the mesh inside one Slurm job: sbatch slurm.sh COMMAND...
# COMMAND runs on the first node once the mesh serves; when it ends, mesh and cluster end.
#SBATCH --job-name=ray-mesh
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
set -eu

if [ $# -eq 0 ]; then
    echo "usage: sbatch $0 COMMAND..." >&2
    exit 2
fi
ulimit -n 65536 || echo "only $(ulimit -n) open files: see docs/cluster.md#files" >&2

# One token for this job's cluster. Its file is on the home directory that all nodes share.
umask 077
RAY_AUTH_TOKEN_PATH=$(mktemp "$HOME/.ray-token-XXXXXX")
trap 'rm -f "$RAY_AUTH_TOKEN_PATH"' EXIT
head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n' >"$RAY_AUTH_TOKEN_PATH"
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH

head_node=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export RAY_MESH_STATE="$PWD/ray-mesh-$SLURM_JOB_ID.json"

srun --ntasks-per-node=1 ray symmetric-run --address "$head_node:6379" --min-nodes "$SLURM_JOB_NUM_NODES" -- \
    bash -c 'python -m ray_mesh up --detach && "$@"; code=$?; ray-mesh down; exit $code' mesh "$@"
