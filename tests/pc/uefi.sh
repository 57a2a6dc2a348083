# OVMF to its shell on both chip sets; a variable that outlives a reset and the death of Ringside; SeaBIOS in lockstep.
debian_down
uefi_send() { printf '%s\r' "$1" >&7; }
variable='RingsideTest -guid 6b1e6f5c-3c9e-4c8e-9d7c-2f4a1d0c5e11'

guest_start --engine "$engine" --uefi="$tmp/vars" --machine q35 --cpus 2 --memory 3G
guest_expect 'Shell> ' 120
check "uefi: OVMF's shell, q35, 2 vCPUs" $?
guest_start --engine "$engine" --uefi="$tmp/vars"
guest_expect 'Shell> ' 120
check "uefi: OVMF's shell, pc, with the same variables" $?
uefi_send "setvar $variable -bs -nv =0x4242"
guest_expect 'Shell> ' 60 2
uefi_send 'reset'
guest_expect 'Shell> ' 120 3
uefi_send "setvar $variable"
guest_expect '42 42' 30
check "uefi: a variable outlives a reset" $?
guest_start --engine "$engine" --uefi="$tmp/vars"
guest_expect 'Shell> ' 120
uefi_send "setvar $variable"
guest_expect '42 42' 30
check "uefi: and the death of Ringside" $?
"$ringside" run --uefi="$tmp/vars" </dev/null >"$tmp/out" 2>&1
check "uefi: one machine at a time uses the file" "$([ $? = 1 ] && grep -q 'another machine' "$tmp/out"; echo $?)"
guest_kill

guest_start --engine check --memory 256M --disk /usr/lib/grub-rescue/grub-rescue-usb.img,ro,format=raw
guest_expect 'GRUB' 120
check "uefi: SeaBIOS and GRUB, bt and interp in lockstep" $?
guest_kill
