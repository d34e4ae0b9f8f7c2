#!/bin/bash
# A stand-in for NVIDIA's l4t_create_default_user.sh, for tests: options and checks as there. See ../../README.md.
set -e

usage() {
	echo "Usage:"
	echo "${script_name} [-u <username>] [-p <password>] [-a] [-n <hostname>] [--accept-license] [-h]"
	exit 1
}

script_name="$(basename "${0}")"
l4t_dir="$(cd "$(dirname "${0}")/.." && pwd)"
rfs_dir="${l4t_dir}/rootfs"
# shellcheck source-path=SCRIPTDIR source=../stand_in.func
source "${l4t_dir}/stand_in.func"
user_name=""
user_pass=""
host_name=""
accept_license=false
while [ -n "${1}" ]; do
	case "${1}" in
	-h | --help) usage ;;
	-a | --autologin) shift 1 ;;
	-u | --username)
		[ -n "${2}" ] || usage
		user_name="${2}"
		shift 2
		;;
	-p | --password)
		[ -n "${2}" ] || usage
		user_pass="${2}"
		shift 2
		;;
	-n | --hostname)
		[ -n "${2}" ] || usage
		host_name="${2}"
		shift 2
		;;
	--accept-license)
		accept_license=true
		shift 1
		;;
	*)
		echo "ERROR: Invalid parameter. Exiting..."
		usage
		;;
	esac
done
if [ "$(whoami)" != "root" ]; then
	echo "ERROR: please run as sudo or root user" >&2
	usage
fi
if [ ! -f "${rfs_dir}/etc/passwd" ]; then
	echo "ERROR: not a valid rootfs directory" >&2
	usage
fi
if [ "${L4T_STAND_IN_QEMU:-yes}" != "yes" ]; then
	echo "ERROR: please install qemu-user-static package" >&2
	usage
fi
user_name="${user_name:-nvidia}"
host_name="${host_name:-tegra-ubuntu}"
licence="${rfs_dir}/usr/share/doc/nvidia-tegra/L4T_End_User_License_Agreement.txt"
if [ ! -f "${licence}" ] && [ ! -f "${licence}.gz" ]; then
	echo "ERROR: Cannot find the L4T end user license agreement"
	exit 1
fi
if [ "${accept_license}" != true ]; then
	# NVIDIA's opens whiptail here and waits for a person.
	echo "ERROR: the licence was not accepted" >&2
	exit 1
fi

step "Creating the user"
echo "Creating: Username - ${user_name}, Password - ${user_pass:-randomized}"
# Lines of a user in place of useradd in a chroot, which would need an emulator.
if grep -q "^${user_name}:" "${rfs_dir}/etc/passwd"; then
	echo "useradd: user '${user_name}' already exists" >&2
	exit 9
fi
echo "${user_name}:x:1000:1000::/home/${user_name}:/bin/bash" >>"${rfs_dir}/etc/passwd"
hash="$(openssl passwd -1 -stdin <<<"${user_pass:-$(head -c 8 /dev/urandom | base64)}")"
echo "${user_name}:${hash}:18000:0:99999:7:::" >>"${rfs_dir}/etc/shadow"
mkdir -p "${rfs_dir}/home/${user_name}"
rm -f "${rfs_dir}/etc/systemd/system/default.target"
step "Creating the host name"
echo "Creating: Hostname - ${host_name}"
echo "${host_name}" >"${rfs_dir}/etc/hostname"
grep -Fxq "127.0.1.1 ${host_name}" "${rfs_dir}/etc/hosts" || echo "127.0.1.1 ${host_name}" >>"${rfs_dir}/etc/hosts"
