# iPXE as a kernel: finds the network card and gets an address.
debian_down
guest_start --engine "$engine" --memory 256M --kernel /boot/ipxe.lkrn --net user
guest_expect 'iPXE [0-9.+]' 60
check "ipxe: starts" $?
guest_expect 'Configuring \(net0|net0: 10\.0\.2\.' 60
check "ipxe: finds the network card" $?
guest_kill
