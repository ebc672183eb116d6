#!/usr/bin/env bash
# Ends what cluster_up.sh ROOT started: jobs, the nodes, the controller, accounting, MariaDB, munged; by their ids, in this order.
root=${1:?a folder}
export SLURM_CONF="$root/slurm.conf"
scancel --user="$(id -un)" 2>/dev/null
for _ in $(seq 150); do
    [ -z "$(squeue -h -t running,completing 2>/dev/null)" ] && break
    sleep 0.1
done
for file in "$root"/run/slurmd.*.pid "$root"/run/{slurmctld,slurmdbd,mysql,munged}.pid; do
    [ -f "$file" ] && pid=$(cat "$file") && kill "$pid" 2>/dev/null || continue
    for _ in $(seq 100); do
        state=$(ps -o stat= -p "$pid")
        [ -z "$state" ] || [ "${state:0:1}" = Z ] && continue 2
        sleep 0.1
    done
    kill -9 "$pid"
done
exit 0
