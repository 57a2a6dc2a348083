# Debian's 32-bit userland with systemd as an initramfs: under the 32-bit kernel, and under a 64-bit one.
debian_down
for kernel in 686 cloud; do
	guest_start --engine "$engine" --cpus 2 --memory 768M --kernel "$guests/$kernel/vmlinuz" \
		--initrd "$guests/debian-i386/initrd" --append "console=ttyS0 quiet"
	debian_login_prompt
	check "i386: Debian's 32-bit userland to its login prompt, kernel $kernel" $?
	guest_send root
	guest_expect 'root@debian' 60
	guest_send "exec env PS1= sh" # which says nothing but its commands' output
	sleep 1
	guest_run 'dpkg --print-architecture; getconf LONG_BIT; systemctl --wait is-system-running; expr $(head -c 3000000 /dev/zero | md5sum | wc -c) \* 2; uname -m' 120
	want=$'i386\n32\nrunning\n72\n'$([ $kernel = 686 ] && echo i686 || echo x86_64)
	check "i386: logged in, 32-bit programs, no failed unit, kernel $kernel" "$([ "$reply" = "$want" ]; echo $?)" "$reply"
	guest_send 'systemctl poweroff'
	guest_wait 90
	check "i386: powers off, kernel $kernel" "$([ "$status" = 0 ]; echo $?)" "status $status"
done
