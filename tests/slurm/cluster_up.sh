#!/usr/bin/env bash
# Starts a SLURM of several nodes on this machine, for tests: munged, MariaDB, slurmdbd (accounting), slurmctld and a slurmd a node,
# all on loopback and all under ROOT. Needs root, no systemd and no cgroups. What it starts, cluster_down.sh ends.
#   cluster_up.sh ROOT [NODES] [CPUS]     then     export SLURM_CONF=ROOT/slurm.conf
set -euo pipefail
root=${1:?a folder} nodes=${2:-3} cpus=${3:-4} port=${SLURM_TEST_PORT:-17817}
host=$(hostname -s)
umask 022
mkdir -p "$root"/{state,spool,run,log,db}

# AuthInfo names this munged's own socket: the machine's munged, if there is one, is left alone.
dd if=/dev/urandom of="$root/munge.key" bs=1024 count=1 status=none && chmod 400 "$root/munge.key"
munged --force --num-threads=2 --key-file="$root/munge.key" --socket="$root/run/munge.socket" --pid-file="$root/run/munged.pid" \
    --log-file="$root/log/munged.log" --seed-file="$root/run/munged.seed"

mariadb-install-db --no-defaults --user=root --datadir="$root/db" --auth-root-authentication-method=normal --skip-test-db \
    >"$root/log/mariadb-install.log" 2>&1
mariadbd --no-defaults --user=root --datadir="$root/db" --socket="$root/run/mysql.sock" --pid-file="$root/run/mysql.pid" \
    --skip-networking --innodb-buffer-pool-size=64M --innodb-log-file-size=16M --innodb-lock-wait-timeout=900 \
    --innodb-flush-log-at-trx-commit=0 >"$root/log/mariadb.log" 2>&1 </dev/null &
sql() { mariadb --no-defaults -S "$root/run/mysql.sock" "$@"; }
for _ in $(seq 600); do sql -e 'SELECT 1' >/dev/null 2>&1 && break; sleep 0.1; done
sql -e 'CREATE DATABASE slurm_acct_db'

cat >"$root/slurmdbd.conf" <<X
AuthType=auth/munge
AuthInfo=socket=$root/run/munge.socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort=$((port + 2))
SlurmUser=root
LogFile=$root/log/slurmdbd.log
PidFile=$root/run/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm_acct_db
X
chmod 600 "$root/slurmdbd.conf"

# cred_expire: a requeued job would wait two minutes. preempt_send_user_signal: the preempted get the signal of sbatch --signal.
{
    cat <<X
ClusterName=test
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort=$port
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$root/run/munge.socket,cred_expire=5
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation=$root/state
SlurmdSpoolDir=$root/spool/%n
SlurmctldPidFile=$root/run/slurmctld.pid
SlurmdPidFile=$root/run/slurmd.%n.pid
SlurmctldLogFile=$root/log/slurmctld.log
SlurmdLogFile=$root/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SwitchType=switch/none
MailProg=/bin/true
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
SlurmdTimeout=300
KillWait=10
MinJobAge=3600
JobRequeue=1
SlurmdParameters=config_overrides
SlurmctldParameters=preempt_send_user_signal
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1,default_queue_depth=200
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=$((port + 2))
AccountingStoragePass=$root/run/munge.socket
X
    for node in $(seq "$nodes"); do
        echo "NodeName=n$node NodeAddr=127.0.0.1 NodeHostname=$host Port=$((port + 10 + node)) CPUs=$cpus RealMemory=8000"
    done
    echo "PartitionName=main Nodes=ALL Default=YES PriorityTier=1 LLN=YES GraceTime=60 MaxTime=INFINITE State=UP"
    echo "PartitionName=high Nodes=ALL PriorityTier=10 PreemptMode=OFF MaxTime=INFINITE State=UP"
} >"$root/slurm.conf"
export SLURM_CONF="$root/slurm.conf"

answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
MYSQL_UNIX_PORT="$root/run/mysql.sock" slurmdbd
for _ in $(seq 300); do answers $((port + 2)) && break; sleep 0.1; done
slurmctld
for node in $(seq "$nodes"); do slurmd -N "n$node"; done
for _ in $(seq 600); do
    [ "$(sinfo -h -p main -t idle -o %D 2>/dev/null)" = "$nodes" ] && exit 0
    sleep 0.1
done
echo "the cluster did not come up: see $root/log" >&2
exit 1
