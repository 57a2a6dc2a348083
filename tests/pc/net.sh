# TCP both ways through the user network, on a virtio card; an e1000 beside it.
debian_down
debian_disk
guest_start --engine "$engine" --memory 1G --cpus 2 --disk "$disk" \
	--kernel "$debian/vmlinuz" --initrd "$debian/initrd.img" --append "root=LABEL=debian ro console=ttyS0 quiet" \
	--net "user,hostfwd=tcp:127.0.0.1:$port-:22,hostfwd=tcp:127.0.0.1:$((port + 1))-:5201" \
	--net "user,model=e1000,hostfwd=tcp:127.0.0.1:$((port + 2))-:5201,pcap=$tmp/e1000.pcap"
debian_login_prompt && debian_ssh_ready
check "net: Debian with two network cards" $?
in_debian 20 'for n in /sys/class/net/e*; do basename $(readlink $n/device/driver); done | sort | tr "\n" " "'
check "net: their drivers" "$([ "$reply" = "e1000 virtio_net " ]; echo $?)" "$reply"
in_debian 20 'systemd-run -q iperf3 -s'
sleep 2
for way in "" -R; do
	for card in 1 2; do
		reply=$(timeout 60 iperf3 -c 127.0.0.1 -p $((port + card)) -t 3 -f m $way 2>&1)
		rate=$(sed -n 's,.* \([0-9.]*\) Mbits/sec.*receiver.*,\1,p' <<<"$reply")
		[ -n "$rate" ] && awk "BEGIN { exit !($rate > 1) }"
		check "net: iperf3 ${way:-to the guest}, card $card" $? "$(tail -n 4 <<<"$reply")"
		echo "# $rate Mbit/s"
	done
done
[ "$(stat -c %s "$tmp/e1000.pcap")" -gt 1000000 ]
check "net: a capture of the second card" $?
debian_down
