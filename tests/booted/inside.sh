#!/usr/bin/env bash
# What is looked at under a systemd that runs: the delivered units in all that can happen to them. Each line that it prints is compared by tests/tests/booted.rs.
set -uo pipefail
unit=dutch-master@shop.service
control="/run/bin/dutch-master"
socket=(--socket /run/dutch-master/shop/shop.sock)

fetch() { timeout 20 bash -c 'exec 3<>/dev/tcp/127.0.0.1/8000; printf "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" >&3; head -n 1 <&3' 2>/dev/null | tr -d '\r'; }
workers() { "$control" status --json "${socket[@]}" | tr ',' '\n' | grep '"pid"' | grep -v "$(systemctl show -P MainPID $unit)" | sort | tr -d '\n'; }
show() { echo "$1: $(systemctl show -P "$2" $unit)"; }
# Until systemd says so, but not for ever.
await() { for _ in $(seq 200); do [[ "$(systemctl show -P "$1" $unit)" == $2 ]] && return; sleep 0.1; done; echo "never: $1=$2, but $(systemctl show -P "$1" $unit)"; }

systemctl start $unit && echo started || { systemctl status --no-pager $unit; cat /run/master.log; systemctl exit 1; exit; }
show state ActiveState
show status StatusText
echo "answer: $(fetch)"
show kept NFileDescriptorStore

before=$(workers)
systemctl kill --kill-whom=main --signal=KILL $unit
await NRestarts 1
await ActiveState active
echo "master killed, answer: $(fetch)"
[[ -n "$before" && "$before" == "$(workers)" ]] && echo "the same workers"

systemctl kill --kill-whom=all --signal=KILL $unit
echo "everything killed, answer: $(fetch)"
await ActiveState active
show restarts NRestarts

systemctl reload $unit && echo reloaded
show status StatusText
echo 'nonsense = 1' >> /run/etc/shop.toml
systemctl reload $unit 2>/dev/null || echo "reload refused"
show state ActiveState
sed -i '/nonsense/d' /run/etc/shop.toml

before=$(workers) main=$(systemctl show -P MainPID $unit)
cp "$control" /run/bin/next && mv /run/bin/next "$control"
"$control" upgrade "${socket[@]}" &> /dev/null && echo upgraded
[[ "$main" == "$(systemctl show -P MainPID $unit)" && "$before" == "$(workers)" ]] && echo "the same processes"
show state ActiveState
systemctl reload $unit && echo "reloaded after the upgrade, answer: $(fetch)"

systemctl stop $unit && echo stopped
show state ActiveState
show result Result
[[ -z "$(pgrep -f /run/bin/worker)" ]] && echo "no worker is left"

systemctl start dutch-master@shop.socket && echo "socket unit started"
show state ActiveState
echo "activated, answer: $(fetch)"
await ActiveState active
systemctl restart $unit &
echo "while it restarts, answer: $(fetch)"
wait
echo "after that, answer: $(fetch)"
show kept NFileDescriptorStore
systemctl stop dutch-master@shop.socket $unit && echo stopped
echo done
