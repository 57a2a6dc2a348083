# ISOLINUX from a CD-ROM: what most installer discs begin with; Linux from it, on IDE and on AHCI.
debian_down
mkdir "$tmp/cd"
cp /usr/lib/ISOLINUX/isolinux.bin /usr/lib/syslinux/modules/bios/ldlinux.c32 "$guests/cloud/vmlinuz" "$guests/cloud/initrd.gz" "$tmp/cd"
cat >"$tmp/cd/isolinux.cfg" <<'EOF'
serial 0
prompt 1
timeout 600
default linux
label linux
	kernel vmlinuz
	append initrd=initrd.gz console=ttyS0 loglevel=3
EOF
xorriso -as mkisofs -quiet -o "$tmp/cd.iso" -b isolinux.bin -c boot.cat -no-emul-boot -boot-load-size 4 -boot-info-table \
	"$tmp/cd" 2>/dev/null
for machine in pc q35; do
	guest_start --engine "$engine" --machine $machine --cdrom "$tmp/cd.iso"
	guest_expect 'ISOLINUX 6' 60 && guest_expect 'boot:' 20
	check "isolinux: its prompt, $machine" $?
	guest_send 'linux quiet'
	guest_shell 60
	check "isolinux: Linux to a shell, $machine" $?
	guest_run 'cat /proc/cmdline' 20
	check "isolinux: with the command line that was typed, $machine" "$([[ $reply = *BOOT_IMAGE=vmlinuz*quiet* ]]; echo $?)" "$reply"
done
guest_kill
rm -r "$tmp/cd"*
