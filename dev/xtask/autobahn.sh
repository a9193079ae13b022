#!/usr/bin/env bash
# Installs the Autobahn|Testsuite into a directory: autobahn.sh DIRECTORY makes DIRECTORY/wstest.
# Nothing outside of it changes, and nothing is done when it is there and works.
#
# The suite needs Python 2.7: what PYTHON2 names, pyenv's, the system's, or else Debian bullseye's, unpacked
# from the mirror that apt is set up with. Everything else comes from PyPI.
set -euo pipefail
HOME_DIR=$(realpath -m "${1:?the directory to install into}")
WSTEST=$HOME_DIR/wstest

# The newest release, and the only one whose dependencies can still be had for Python 2.7. Its own pins
# and their dependencies, all by version: pip for 2.7 resolves nothing reliably any more.
PACKAGES="autobahntestsuite==25.10.1 autobahn==0.10.9 Twisted==19.10.0 zope.interface==4.6.0 txaio==2.1.0
  incremental==16.10.1 constantly==15.1.0 Automat==22.10.0 hyperlink==21.0.0 attrs==21.4.0 idna==2.10
  PyHamcrest==1.10.1 six==1.16.0 enum34==1.1.10 typing==3.10.0.0 ipaddress==1.0.23 pyOpenSSL==19.1.0
  cryptography==3.3.2 cffi==1.15.1 pycparser==2.21 service_identity==18.1.0 pyasn1==0.5.1
  pyasn1-modules==0.3.0 klein==17.10.0 Werkzeug==1.0.1 jinja2==2.11.3 markupsafe==1.1.1
  setuptools==44.0.0 unittest2==1.1.0 traceback2==1.4.0 linecache2==1.0.0 argparse==1.4.0"
# They need a C compiler and Python's headers; the suite does without, somewhat slower.
ACCELERATORS="wsaccel==0.6.6 ujson==2.0.3"
PIP="pip==20.3.4 setuptools==44.1.1 wheel==0.37.1"
BULLSEYE="python2.7 python2.7-minimal libpython2.7-stdlib libpython2.7-minimal libssl1.1 libffi7 libreadline8"

main() {
  if [ -x "$WSTEST" ] && "$WSTEST" -a >/dev/null 2>&1; then return; fi
  rm -rf "$HOME_DIR"
  mkdir -p "$HOME_DIR"
  local python site=$HOME_DIR/site pip=$HOME_DIR/pip
  python=$(find_python || unpack_python)
  echo "Python 2.7: $python"

  # Python 2's pip as wheels, run where they are unpacked: needs neither ensurepip nor virtualenv.
  # shellcheck disable=SC2086
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
    --python-version 2.7 --implementation py --abi none --platform any --dest "$pip" $PIP
  for wheel in "$pip"/*.whl; do python3 -m zipfile -e "$wheel" "$pip/unpacked"; done
  install_packages() {
    PYTHONPATH=$pip/unpacked "$python" -W ignore -m pip install --quiet --disable-pip-version-check \
      --no-deps --target "$site" "$@" 2>"$HOME_DIR/pip.log"
  }
  # shellcheck disable=SC2086
  install_packages $PACKAGES || { cat "$HOME_DIR/pip.log" >&2; exit 1; }
  # A namespace package, which Python 2 does not see on PYTHONPATH.
  touch "$site/zope/__init__.py"
  # shellcheck disable=SC2086
  install_packages $ACCELERATORS || echo "without accelerators: they could not be built"

  cat >"$WSTEST.new" <<W
#!/bin/sh
PYTHONPATH='$site' exec '$python' -W ignore -c 'from autobahntestsuite.wstest import run; run()' "\$@"
W
  chmod +x "$WSTEST.new"
  "$WSTEST.new" -a
  mv "$WSTEST.new" "$WSTEST"
}

find_python() {
  local candidate
  for candidate in "${PYTHON2:-}" "$HOME"/.pyenv/versions/2.7.*/bin/python2.7 "$(command -v python2.7 || true)"; do
    if [ -x "$candidate" ] && "$candidate" -c 'import ssl, zlib, ctypes' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  return 1
}

# Prints a wrapper of bullseye's python2.7, so that nothing else meets bullseye's libraries.
unpack_python() {
  local bullseye=$HOME_DIR/bullseye mirror list packages
  list=$bullseye/apt/sources.list
  if ! command -v apt-get >/dev/null; then
    echo "no Python 2.7 and no apt: name a Python 2.7 with PYTHON2=" >&2
    exit 1
  fi
  mirror=$(grep -rhsoE '(https?|file)://[^ ]+/debian/?( |$)' /etc/apt/sources.list /etc/apt/sources.list.d |
    head -n 1 | tr -d ' ')
  mkdir -p "$bullseye"/apt/{lists/partial,archives/partial,packages}
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]" \
    "${mirror:?no Debian mirror among the sources of apt} bullseye main" >"$list"
  local options=(-o "Dir::Etc::sourcelist=$list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$bullseye/apt/lists"
    -o "Dir::Cache=$bullseye/apt")
  read -ra packages <<<"$BULLSEYE"
  (
    apt-get "${options[@]}" update
    cd "$bullseye/apt/packages"
    apt-get "${options[@]}" download "${packages[@]/%//bullseye}"
    for package in *.deb; do dpkg -x "$package" "$bullseye/unpacked"; done
  ) >&2
  local unpacked=$bullseye/unpacked triplet
  triplet=$(basename "$(dirname "$(find "$unpacked/usr/lib" -name 'libssl.so.1.1')")")
  cat >"$bullseye/python2.7" <<W
#!/bin/sh
LD_LIBRARY_PATH='$unpacked/usr/lib/$triplet:$unpacked/lib/$triplet' exec '$unpacked/usr/bin/python2.7' "\$@"
W
  chmod +x "$bullseye/python2.7"
  echo "$bullseye/python2.7"
}

main
