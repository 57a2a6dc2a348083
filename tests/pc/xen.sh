# Xen by SeaBIOS and GRUB (Multiboot 2), and Debian's kernel on it as the privileged domain, on two processors.
debian_down
mkdir "$tmp/xen"
cp "$guests/xen/xen.gz" "$debian/vmlinuz" "$guests/cloud/initrd.gz" "$tmp/xen"
cat >"$tmp/xen/grub.cfg" <<'EOF'
serial --unit=0
terminal_output serial
multiboot2 /xen.gz xen com1=115200,8n1 console=com1 noreboot dom0_mem=300M
module2 /vmlinuz vmlinuz console=hvc0 loglevel=3
module2 --nounzip /initrd.gz
boot
EOF
boot_disk "$tmp/xen" "$tmp/xen.img"
guest_start --engine "$engine" --memory 768M --cpus 2 --disk "$tmp/xen.img"
guest_expect '\(XEN\) Brought up 2 CPUs' 120
check "xen: the hypervisor, on two processors" $?
guest_shell 300
check "xen: Debian's kernel on it to a shell" $?
guest_run 'cat /sys/hypervisor/type; nproc; ls /sys/firmware/acpi/tables | grep -c DSDT; wc -l </proc/partitions' 30
reply=$(tr '\n' ' ' <<<"$reply")
check "xen: it knows where it is, has both processors, ACPI" "$([ "${reply% * }" = 'xen 2 1' ]; echo $?)" "$reply"
guest_send poweroff
guest_expect '\(XEN\) Entering ACPI S5 state' 30
guest_wait 30
check "xen: powers off" "$([ "$status" = 0 ]; echo $?)" "status $status"
rm -r "$tmp/xen"*
