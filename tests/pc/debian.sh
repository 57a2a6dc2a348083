# Sourced: Debian on a disk of its own (a copy, so that nothing is left), talked to on its serial line and over ssh.

debian=$guests/debian
boot_seconds=120 # to the login prompt; a loaded machine takes its time
port=$((20000 + RANDOM % 20000))
disk=$tmp/disk.img

# debian_disk: a fresh disk.
debian_disk() { cp --sparse=always --reflink=auto "$debian/disk.img" "$disk"; }

# debian_start ARGUMENTS...: without --disk among them the machine has $disk on virtio.
debian_start() {
	local with_disk=(--disk "$disk")
	case " $* " in *' --disk '*) with_disk=() ;; esac
	guest_start --engine "$engine" --memory 1G --cpus 2 "${with_disk[@]}" \
		--net "user,hostfwd=tcp:127.0.0.1:$port-:22" "$@"
}

# debian_start_kernel ARGUMENTS...: without firmware.
debian_start_kernel() {
	debian_start --kernel "$debian/vmlinuz" --initrd "$debian/initrd.img" \
		--append "root=LABEL=debian ro console=ttyS0 quiet" "$@"
}

debian_login_prompt() { guest_expect '^debian login:' $boot_seconds "${1:-1}"; }

ssh_options=(-i "$tmp/key" -p $port -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null
	-o LogLevel=ERROR -o ConnectTimeout=10)

# in_debian SECONDS COMMAND: runs it over ssh; its output is in $reply, its status returned.
in_debian() {
	local seconds=$1
	shift
	reply=$(timeout "$(patience "$seconds")" ssh "${ssh_options[@]}" root@127.0.0.1 "$@" 2>&1 </dev/null)
}

# debian_ssh_ready: the ssh server answers.
debian_ssh_ready() {
	local begin=$SECONDS
	install -m 600 "$debian/key" "$tmp/key"
	until in_debian 15 true; do
		! waited "$begin" 60 && kill -0 "$guest_pid" 2>/dev/null || return 1
		sleep 1
	done
}

# debian_up: one Debian for all parts that only need some Debian; started when the first of them asks.
up=
debian_up() {
	[ -z "$up" ] || ! kill -0 "$guest_pid" 2>/dev/null || return 0
	debian_disk
	debian_start_kernel "$@" && debian_login_prompt && debian_ssh_ready && up=1
}
# debian_down: before a part that starts another guest.
debian_down() { up=; guest_kill; }
