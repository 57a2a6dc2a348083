# iPXE from a CD-ROM: finds the network card and gets an address.
debian_down
for model in virtio e1000; do
	guest_start --engine "$engine" --memory 256M --cdrom /usr/lib/ipxe/ipxe.iso --net user,model=$model
	guest_expect 'iPXE 1[0-9.+]' 60
	check "ipxe: starts, $model" $?
	guest_expect 'net0: 10\.0\.2\.|net0: [0-9a-f:]+ using|Configuring \(net0.*ok' 60
	check "ipxe: finds the network card, $model" $?
	guest_kill
done
