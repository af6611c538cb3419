# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# The Debian packages: built with their tests, looked at by lintian, installed and removed in a new system.

# in_chroot COMMAND...
in_chroot() {
    chroot "$package_root" env DEBIAN_FRONTEND=noninteractive LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"
}

# A small Debian of the same release and from the same archive as this one.
package_system() {
    local mirror release
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep debian | grep -v security | head -n 1)
    release=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
    debootstrap --variant=minbase "$release" "$package_root" "$mirror" || return 1
    cp -r /etc/apt/apt.conf.d "$package_root/etc/apt/"
    mount --bind /proc "$package_root/proc" && mount --bind /dev "$package_root/dev"
}

package_install() {
    mkdir "$package_root/packages" && cp "$package_out"/*.deb "$package_root/packages" &&
        in_chroot sh -c 'rm -f /packages/*dbgsym*; apt-get update -qq
            apt-get install -y -qq --no-install-recommends mount gcc libc6-dev pkgconf /packages/*.deb' || return 1
    in_chroot test -x /sbin/mount.walrusfs -a -e /lib/systemd/system/walrusfs@.service
}

# package_autopkgtest NAME: a test of scripts/debian/tests, in the new system.
package_autopkgtest() {
    cp "$ROOT/scripts/debian/tests/$1" "$package_root/packages/" && in_chroot sh "/packages/$1"
}

# The tour of the documentation, with the packages and a system of their own.
package_tour() {
    in_chroot apt-get install -y -qq --no-install-recommends nginx-light busybox-static curl || return 1
    umount -l "$package_root/dev" "$package_root/proc"
    WALRUSFS_TOUR_ROOT=$package_root "$ROOT/tests/mount/tour.py" | tee "$package_out/tour.log"
    mount --bind /proc "$package_root/proc" && mount --bind /dev "$package_root/dev"
    grep -q '^ok 1 - [^#]*$' "$package_out/tour.log"
}

package_fstab() {
    # shellcheck disable=SC2016
    in_chroot sh -euc 'mkdir -p /mnt/boot
        echo "/var/lib/boot /mnt/boot walrusfs fsync=each,nofail,allow_other 0 0" >> /etc/fstab
        mount /mnt/boot; mkdir /mnt/boot/t; echo x > /mnt/boot/t/append
        pid=$(cat /var/lib/boot/LOCK); umount /mnt/boot
        while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done # umount does not wait for the daemon
        mount -a -t walrusfs; mount -a -t walrusfs
        [ "$(cat /mnt/boot/t/next)" = x ]; walrusctl status /mnt/boot; umount /mnt/boot'
}

# Nothing of the program is left, and everything of the store.
package_remove() {
    in_chroot apt-get purge -y -qq walrusfs libwalrus0 libwalrus-dev || return 1
    [ -z "$(in_chroot sh -c 'find / -xdev -path /packages -prune -o -iname "*walrus*" -print | grep -v "^/var/log\|^/var/cache\|^/tmp"')" ] &&
        in_chroot test -e /var/lib/boot/SUPER
}

package_unmount() {
    mountpoint -q "$package_root/mnt/boot" && umount -l "$package_root/mnt/boot"
    umount -l "$package_root/dev" "$package_root/proc"
}

need_packages lintian debootstrap debhelper
package_out=$(mktemp -d) package_root=$(mktemp -d)
check "the packages are built, and lintian has nothing to say" "$ROOT/scripts/build-deb" "$package_out"
if [ "$(id -u)" -ne 0 ] || ! package_log=$(package_system 2>&1); then
    printf 'SKIP no new system here: %s\n' "$(tail -n 3 <<<"${package_log:-not root}")"
    add 0 0 1
else
    check "they are installed in a new system" package_install
    check "a store is mounted there in each way" package_autopkgtest mount
    check "the examples are compiled and run there" package_autopkgtest link
    check "a line of fstab is mounted" package_fstab
    check "the tour goes as its page says, from the packages" package_tour
    check "they are removed, and leave nothing but the store" package_remove
fi
package_unmount 2>/dev/null
rm -rf --one-file-system "$package_out" "$package_root"
