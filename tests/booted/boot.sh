#!/usr/bin/env bash
# Boots systemd in namespaces of its own (to be run by `unshare --mount --pid --fork --kill-child --cgroup --ipc --uts`), with the units that are delivered, and lets it run inside.sh.
# Everything that is mounted here is seen by nobody else. REPOSITORY, MASTER, WORKER and OUT come by the environment.
set -euo pipefail
mount --make-rprivate /
mount -t tmpfs tmpfs /run
umount --recursive /sys/fs/cgroup 2>/dev/null || umount --lazy /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t proc proc /proc
mount -t tmpfs tmpfs /etc/systemd/system
mkdir -p /run/lock /run/etc /run/bin /etc/systemd/system/dutch-master@.service.d

cd /etc/systemd/system
for unit in dutch-master@.service dutch-master@shop.socket; do
  sed "s#/usr/local/bin/dutch-master#/run/bin/dutch-master#; s#/etc/dutch-master/#/run/etc/#; s#=8000#=127.0.0.1:8000#" "$REPOSITORY/deploy/systemd/$unit" > "$unit"
done
cp "$MASTER" /run/bin/dutch-master
cp "$WORKER" /run/bin/worker
cp "$REPOSITORY/tests/booted/inside.sh" /run/inside.sh
sed "s#/usr/local/bin/dutch-master#/run/bin/dutch-master#" "$REPOSITORY/deploy/systemd/before-253.conf" > dutch-master@.service.d/reload.conf
# No journal runs here, and no user was made.
printf '[Service]\nUser=daemon\nStandardError=append:/run/master.log\n' > dutch-master@.service.d/here.conf
printf 'worker = "/run/bin/worker"\nlisten = ["web=127.0.0.1:8000"]\nsettle_time = "0s"\n' > /run/etc/shop.toml
cat > inside.service <<END
[Unit]
DefaultDependencies=no
[Service]
Type=oneshot
ExecStart=/bin/bash /run/inside.sh
ExecStopPost=/bin/systemctl exit 0
TimeoutStartSec=90
StandardOutput=append:$OUT
StandardError=append:$OUT
END
# Last: the repository may be there.
cd /
mount -t tmpfs tmpfs /tmp
exec env -i PATH="$PATH" container=unshare /usr/lib/systemd/systemd --system --unit=inside.service --show-status=no --log-target=console --log-level=warning
