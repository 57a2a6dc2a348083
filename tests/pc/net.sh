# TCP both ways through the user network, on each card.
debian_down
for model in virtio e1000; do
	debian_disk
	guest_start --engine "$engine" --memory 1G --cpus 2 --disk "$disk" --kernel "$debian/vmlinuz" \
		--initrd "$debian/initrd.img" --append "root=LABEL=debian ro console=ttyS0 quiet" \
		--net "user,model=$model,hostfwd=tcp:127.0.0.1:$port-:22,hostfwd=tcp:127.0.0.1:$((port + 1))-:5201,pcap=$tmp/net.pcap"
	debian_login_prompt && debian_ssh_ready
	check "net: Debian with $model" $?
	in_debian 20 'basename $(readlink /sys/class/net/e*/device/driver)'
	check "net: the driver of $model" "$([ "$reply" = $model ] || [ "$reply" = "${model}_net" ]; echo $?)" "$reply"
	in_debian 20 'systemd-run -q iperf3 -s; until ss -ltn | grep -q :5201; do sleep 0.2; done'
	for way in '' -R; do
		reply=$(timeout "$(patience 60)" iperf3 -c 127.0.0.1 -p $((port + 1)) -t 3 -f m $way 2>&1)
		rate=$(sed -n 's,.* \([0-9.]*\) Mbits/sec.*receiver.*,\1,p' <<<"$reply")
		[ -n "$rate" ] && awk "BEGIN { exit !($rate > 1) }"
		status=$?
		check "net: iperf3 $([ -z $way ] && echo into || echo out of) the guest, $model" $status "$(tail -n 4 <<<"$reply")"
		echo "# $rate Mbit/s"
	done
	[ "$(stat -c %s "$tmp/net.pcap")" -gt 1000000 ]
	check "net: a capture of it, $model" $?
	rm -f "$tmp/net.pcap"
	guest_kill
done
