#!/bin/busybox sh
# The first process of a guest: checks the program and turns the machine off. Lines that start with `guest:` are read by
# the host.
/bin/busybox --install -s /bin
export PATH=/bin HOME=/ TMPDIR=/tmp NO_COLOR=1 TIDEGATE_PROGRAM=/bin/tidegate
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t bpf bpf /sys/fs/bpf
mount -t tmpfs tmpfs /tmp
ip link set lo up
ulimit -n 65536
# The console clears its line at the start, so the first word gets a line of its own.
echo
echo "guest: up $(uname -r)"
tidegate doctor
echo "guest: doctor $?"
kernel-tests vm_ --test-threads=1 --show-output
status=$?
echo "guest: tests $status"
[ "$status" = 0 ] || dmesg | sed '1,/Run \/init as/d'
poweroff -f
