# Debian's drivers on the devices that the other parts leave out: three more UARTs, consoles and ports, virtio sockets,
# entropy, a shared directory that may only be read, three network cards, one of them on a tap device, the speaker.
# All of it in a network of its own, where the tap device is: tests/pc/run runs itself there.

# own_network PART: its lines, counted here.
own_network() {
	local line whole=1
	while read -r line; do
		case $line in
		[0-9]*' passed, '*' failed') whole=0 ;;
		'ok '* | 'not ok '*)
			count=$((count + 1))
			[[ $line = ok* ]] || failed=$((failed + 1))
			echo "${line%%[0-9]*}$count -${line#* -}" ;;
		'#'*) echo "$line" ;;
		esac
	done < <(RINGSIDE_NETWORK=own unshare -Urn tests/pc/run --engine "$engine" "$1")
	check "$1: all of it, in a network of its own" $whole
}

# What the host's programs begin with, in Python.
peer='
import socket, sys, time
def dial(path):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(60)
    s.connect(path)
    return s
'

# appears LINE FILE: what a guest has written gets there soon.
appears() {
	local begin=$SECONDS
	until tr -d '\r' <"$2" | grep -qx "$1"; do
		! waited "$begin" 30 || return 1
		sleep 0.2
	done
}

devices_machine() {
	local tap=()
	if [ "${RINGSIDE_NETWORK-}" = own ]; then
		ip link set lo up && ip tuntap add mode tap tap0 && ip addr add 192.0.2.1/24 dev tap0 && ip link set tap0 up &&
			tap=(--net tap,ifname=tap0,mac=52:54:00:00:00:03)
	fi
	mkdir "$tmp/devices" "$tmp/given"
	echo from-the-host >"$tmp/given/file"
	debian_disk
	debian_start_kernel --net user,model=e1000,mac=52:54:00:00:00:02 "${tap[@]}" --rng --qmp "unix:$tmp/qmp" \
		--serial stdio --serial "file:$tmp/devices/com2" --serial "unix:$tmp/devices/com3" --serial "file:$tmp/devices/com4" \
		--console "file:$tmp/devices/hvc0" --console "unix:$tmp/devices/port,name=org.example.port" \
		--vsock "$tmp/devices/vsock" --share "$tmp/given:given:ro"
	debian_login_prompt && debian_ssh_ready
	local good=$?
	check "devices: Debian with them" $good
	return $good
}

devices_lines() {
	in_debian 60 'for i in 1 2 3; do stty -F /dev/ttyS$i raw -echo 115200; done; echo second >/dev/ttyS1; echo fourth >/dev/ttyS3'
	check "devices: four UARTs: what goes out of COM2 and COM4" \
		"$(appears second "$tmp/devices/com2" && appears fourth "$tmp/devices/com4"; echo $?)" "$reply"
	python3 -c "$peer"'
s = dial(sys.argv[1]); s.sendall(b"into COM3\n"); print(s.makefile("rb").readline().decode(), end="")' \
		"$tmp/devices/com3" >"$tmp/devices/back" 2>&1 &
	in_debian 60 'exec 3<>/dev/ttyS2; IFS= read -r -t 50 line <&3; echo "got $line" >&3; sleep 1'
	wait $!
	check "devices: both ways on COM3" "$(grep -qx 'got into COM3' "$tmp/devices/back"; echo $?)" "$reply $(cat "$tmp/devices/back")"
	in_debian 60 'modprobe virtio_console; for i in $(seq 300); do
		[ -c /dev/hvc0 -a -e /dev/virtio-ports/org.example.port ] && break; sleep 0.1; done
		echo to-hvc0 >/dev/hvc0; cat /sys/class/virtio-ports/*/name'
	check "devices: a virtio console, and a port's name" \
		"$(appears to-hvc0 "$tmp/devices/hvc0" && grep -qx org.example.port <<<"$reply"; echo $?)" "$reply"
	python3 -c "$peer"'
s = dial(sys.argv[1]); s.sendall(b"into the port\n"); print(s.makefile("rb").readline().decode(), end="")' \
		"$tmp/devices/port" >"$tmp/devices/back" 2>&1 &
	in_debian 60 'exec 3<>/dev/virtio-ports/org.example.port; IFS= read -r -t 50 line <&3; echo "got $line" >&3; sleep 1'
	wait $!
	check "devices: both ways on the port" "$(grep -qx 'got into the port' "$tmp/devices/back"; echo $?)" \
		"$reply $(cat "$tmp/devices/back")"
}

# A guest's program connects to the host (CID 2), sends two megabytes, and is told how many came.
devices_socket() {
	python3 -c "$peer"'
l = socket.socket(socket.AF_UNIX); l.settimeout(60); l.bind(sys.argv[1]); l.listen(); s, _ = l.accept()
n = 0
while part := s.recv(65536): n += len(part)
s.sendall(b"%d bytes\n" % n)' "$tmp/devices/vsock_1234" >"$tmp/devices/back" 2>&1 &
	for _ in $(seq 300); do [ -S "$tmp/devices/vsock_1234" ] && break; sleep 0.1; done
	in_debian 60 'modprobe vmw_vsock_virtio_transport; perl -e '\''socket(S, 40, 1, 0) or die $!;
		connect(S, pack("SSLLx4", 40, 0, 1234, 2)) or die $!; print S "x" x 2000000; S->flush; shutdown(S, 1); print <S>'\'
	wait $!
	check "devices: a virtio socket to the host" "$(grep -qx '2000000 bytes' <<<"$reply"; echo $?)" "$reply $(cat "$tmp/devices/back")"
}

devices_rest() {
	in_debian 60 'modprobe virtio_rng; cat /sys/class/misc/hw_random/rng_current; head -c 4096 /dev/hwrng | wc -c'
	check "devices: entropy" "$([[ $reply = virtio_rng.0*4096 ]]; echo $?)" "$reply"
	in_debian 60 'mkdir -p /mnt/g && mount -t 9p -o trans=virtio,version=9p2000.L given /mnt/g && cat /mnt/g/file
		echo no >/mnt/g/file; touch /mnt/g/new; rm /mnt/g/file; ls /mnt/g; cat /mnt/g/file'
	check "devices: a directory that is shared to be read" \
		"$([ "$(grep -cx from-the-host <<<"$reply")" = 2 ] && [ "$(ls "$tmp/given")" = file ]; echo $?)" "$reply"
	in_debian 60 'modprobe pcspkr; grep -h "PC Speaker" /proc/bus/input/devices'
	check "devices: a speaker" "$(grep -q 'PC Speaker' <<<"$reply"; echo $?)" "$reply"
}

# The whole way of data through a tap device, both ways.
devices_tap() {
	local got
	[ "${RINGSIDE_NETWORK-}" = own ] || { echo "# no network of its own here: no tap device"; return; }
	python3 -c "$peer"'
l = socket.create_server(("192.0.2.1", 7777)); l.settimeout(60); s, _ = l.accept()
n = 0
while part := s.recv(65536): n += len(part); s.sendall(part)
print(n)' >"$tmp/devices/back" 2>&1 &
	in_debian 90 'for n in /sys/class/net/*; do [ "$(cat $n/address)" = 52:54:00:00:00:03 ] && name=${n##*/}; done
		ip addr add 192.0.2.2/24 dev $name; ip link set $name up; ping -q -c 1 -w 30 192.0.2.1 | grep received
		for i in $(seq 100); do exec 3<>/dev/tcp/192.0.2.1/7777 && break; sleep 0.2; done; head -c 20M /dev/zero >&3 & head -c 20M <&3 | wc -c'
	got=$reply
	wait $!
	check "devices: a tap device: a ping, and 20 MiB there and back" \
		"$(grep -q '1 received' <<<"$got" && grep -qx 20971520 <<<"$got"; echo $?)" "$got $(cat "$tmp/devices/back")"
	in_debian 20 'for d in /sys/class/net/e*; do basename $(readlink $d/device/driver); done'
	check "devices: three cards" "$([ "$(sort <<<"$reply")" = $'e1000\nvirtio_net\nvirtio_net' ]; echo $?)" "$reply"
}

debian_down
if [ -z "${RINGSIDE_NETWORK-}" ] && unshare -Urn true 2>/dev/null; then
	own_network devices
else
	if devices_machine; then
		devices_lines
		devices_socket
		devices_rest
		devices_tap
	fi
	debian_down
fi
