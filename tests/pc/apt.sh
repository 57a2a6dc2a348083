# A package from a repository on the host's loopback.
debian_up
repository=$tmp/repository
mkdir -p "$repository/deb/DEBIAN" "$repository/deb/usr/bin"
printf 'Package: ringside-probe\nVersion: 1.0\nArchitecture: all\nMaintainer: nobody <nobody@localhost>\nDescription: a probe\n' \
	>"$repository/deb/DEBIAN/control"
printf '#!/bin/sh\necho probe-is-installed\n' >"$repository/deb/usr/bin/ringside-probe"
chmod 755 "$repository/deb/usr/bin/ringside-probe"
dpkg-deb --root-owner-group -b "$repository/deb" "$repository/probe.deb" >/dev/null
{
	cat "$repository/deb/DEBIAN/control"
	echo "Filename: ./probe.deb"
	echo "Size: $(stat -c %s "$repository/probe.deb")"
	echo "SHA256: $(sha256sum "$repository/probe.deb" | cut -d' ' -f1)"
} >"$repository/Packages"
http_port=$((port + 1))
python3 -m http.server --bind 127.0.0.1 --directory "$repository" $http_port >/dev/null 2>&1 &
http_pid=$!
for ((i = 0; i < 600; i++)); do
	(exec 3<>"/dev/tcp/127.0.0.1/$http_port") 2>/dev/null && break
	sleep 0.1
done
in_debian 120 "rm -f /etc/apt/sources.list /etc/apt/sources.list.d/*; \
	echo 'deb [trusted=yes] http://10.0.2.2:$http_port ./' >/etc/apt/sources.list; \
	apt-get -q update && apt-get -q -y install ringside-probe && ringside-probe"
check "apt: a package from a repository on the host's loopback" "$(grep -qx probe-is-installed <<<"$reply"; echo $?)" \
	"$(tail -n 3 <<<"$reply")"
kill $http_pid
wait $http_pid 2>/dev/null
