# shellcheck shell=bash
# Sourced by the download scripts: fetch a file with curl or wget, and let it in only when it is whole.
#
# BASE_URL         where the files are, in place of the published address (a mirror of your own)
# STALL_SECONDS    give up when less than 1000 bytes a second arrive for so long (default 60)
# MOST_MEGABYTES   give up on a file larger than this (default 20000; the largest has 8000)
# PYTHON           the Python (standard library alone) that unpacks and checks

CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." || exit
stall=${STALL_SECONDS:-60}
most=${MOST_MEGABYTES:-20000}
python=${PYTHON:-$(command -v python3 || command -v python || true)}

die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# choose KIND NAMES ARGUMENT...: print the one argument if it is among NAMES; else list them and fail.
choose() {
  local kind=$1 names=$2 known
  shift 2
  for known in $names; do
    if [ $# -eq 1 ] && [ "$1" = "$known" ]; then
      echo "$known"
      return 0
    fi
  done
  {
    case "$#:${1-}" in
      1:-h | 1:--help) ;;
      0:*) printf 'error: which %s?\n' "$kind" ;;
      1:*) printf 'error: no %s is called %q\n' "$kind" "$1" ;;
      *) printf 'error: one %s at a time\n' "$kind" ;;
    esac
    printf 'usage: bash %s NAME\nNAME is one of:\n' "$0"
    # shellcheck disable=SC2086  # one name a line
    printf '  %s\n' $names
  } >&2
  return 1
}

bytes() {
  if [ -f "$1" ]; then wc -c <"$1" | tr -d ' '; else echo 0; fi
}

# bounded COMMAND...: become it; it ends when a file that it writes gets too large.
bounded() {
  ulimit -f $((most * 1024)) 2>/dev/null || true
  exec "$@"
}

# nag PART PROCESS: end a process when PART grows too slowly, which wget itself does not notice.
nag() {
  local before now nap
  before=$(bytes "$1")
  trap 'kill "$nap" 2>/dev/null; exit' TERM
  while
    sleep "$stall" &
    nap=$!
    wait "$nap"
  do
    now=$(bytes "$1")
    [ $((now - before)) -ge $((stall * 1000)) ] || kill "$2" 2>/dev/null || return 0
    before=$now
  done
}

# transfer URL PART: bring URL into PART, going on behind what is there.
# Status 0: nothing is missing; 1: cut short; 2: the server cannot go on from there; 3: the server has no such file.
transfer() {
  local status=0 code
  if command -v curl >/dev/null; then
    local show=-sS redirects='=http,https'
    [ ! -t 2 ] || show=-#
    case $1 in https:*) redirects='=https' ;; esac # not to what anyone on the way can change
    code=$(bounded curl "$show" --fail --location --proto-redir "$redirects" --connect-timeout "$stall" \
      --speed-limit 1000 --speed-time "$stall" --continue-at - --output "$2" --write-out '%{http_code}' \
      --url "$1") || status=$?
    case "$status:$code" in
      0:* | 22:416) return 0 ;; # 416: no bytes behind those that are there
      22:*) return 3 ;;
      33:* | 36:*) return 2 ;;
      *) return 1 ;;
    esac
  elif command -v wget >/dev/null; then
    local show=-nv
    [ ! -t 2 ] || show=-v
    # Kept connections fail on redirects by a server that closes them all the same.
    bounded wget "$show" --no-http-keep-alive --continue --tries=1 --timeout="$stall" -O "$2" -- "$1" &
    local wget=$! nag
    nag "$2" "$wget" >/dev/null 2>&1 &
    nag=$!
    # shellcheck disable=SC2064  # their ids of now
    trap "kill $wget $nag 2>/dev/null; exit 143" INT TERM
    wait "$wget" 2>/dev/null || status=$? # bash remarks on what nag has ended
    trap - INT TERM
    kill "$nag" 2>/dev/null || true
    case "$status" in
      0) return 0 ;;
      8) return 3 ;;
      1) return 2 ;; # older versions, where the server does not support ranges
      *) return 1 ;;
    esac
  fi
  die "neither curl nor wget is installed, and one of them is needed"
}

# bring URL PART: transfer, and go on at once after a cut so long as something arrives.
bring() {
  local size status round
  size=$(bytes "$2")
  for round in 1 2 3 4 5; do
    [ "$round" -eq 1 ] || echo "going on from byte $size" >&2
    status=0
    transfer "$1" "$2" || status=$?
    if [ "$(bytes "$2")" -ge $((most * 1048576)) ]; then
      rm -f -- "$2"
      die "$1 gives more than $most megabytes, which no such file has"
    fi
    case $status in
      0 | 3) return $status ;;
      1) [ "$(bytes "$2")" -gt "$size" ] || return 1 ;;
      2) rm -f -- "$2" ;;
    esac
    size=$(bytes "$2")
  done
  return 1
}

# fetch URL PART ACCEPT...: bring URL into PART, then run `ACCEPT... PART`, which puts it where it belongs.
# ACCEPT's status 3 says that the content is wrong: PART is removed, and fetched anew if it began in an earlier run.
fetch() {
  local url=$1 part=$2 resumed='' status
  shift 2
  [ -n "$python" ] || die "python3 is needed to check what arrives"
  mkdir -p -- "$(dirname -- "$part")"
  [ ! -s "$part" ] || resumed=yes
  while :; do
    echo "fetching $url${resumed:+, from byte $(bytes "$part")}"
    status=0
    bring "$url" "$part" || status=$?
    [ -s "$part" ] || rm -f -- "$part"
    case $status in
      1) die "$url did not arrive; the same command goes on from where it stopped" ;;
      3) die "the server refuses $url: its answer is above" ;;
    esac
    status=3
    if [ -e "$part" ]; then
      status=0
      "$@" "$part" || status=$?
    fi
    case $status in
      0) return 0 ;;
      3) ;;
      *) die "$part was fetched but could not be put in place; the same command tries again" ;;
    esac
    if is_page "$part"; then echo "the server sent a web page in place of the file" >&2; fi
    rm -f -- "$part"
    [ -n "$resumed" ] || die "what $url gave is not usable and was removed"
    resumed=''
  done
}

is_page() {
  [ -s "$1" ] && head -c 512 -- "$1" | LC_ALL=C grep -aiE '<(!doctype|html|head)' >/dev/null
}

# fetch_dataset URL FOLDER [SPLIT]: unpack URL as FOLDER, unless FOLDER (or its SPLIT) is there.
# SPLIT tells apart data sets that both projects publish under one name; the second joins the first's folder.
fetch_dataset() {
  if [ -d "$2" ]; then rmdir -- "$2" 2>/dev/null || true; fi # an empty folder is no data set
  if [ -e "$2${3:+/$3}" ] || { [ -L "$2" ] && [ ! -e "$2" ]; }; then
    echo "$2 is there already; it was left as it is (to fetch it anew, move it away first)"
    return 0
  fi
  fetch "$1" "./datasets/${1##*/}.part" unpack_as "$2"
  echo "$2 holds: $(cd -- "$2" && echo *)"
}

# Cityscapes may not be passed on; say how to get it.
explain_cityscapes() {
  cat <<'END'
Cityscapes' licence does not let anyone else hand it out.
1. Register at https://www.cityscapes-dataset.com and download gtFine_trainvaltest.zip and
   leftImg8bit_trainvaltest.zip; unpack both.
2. python datasets/prepare_cityscapes_dataset.py --gtFine_dir ./gtFine --leftImg8bit_dir ./leftImg8bit \
     --output_dir ./datasets/cityscapes
That makes the pairs (train, test) for pix2pix and the two domains (trainA, trainB, testA, testB) for CycleGAN.
END
  exit 1
}

unpack_as() {
  "$python" -m util.download.archive "$2" "$1" || return
  rm -f -- "$2"
}

# fetch_weights KIND URL FILE: put the network that URL gives at FILE, unless it is there.
# Both projects publish networks under the same names: origin.txt beside FILE remembers whose it is.
fetch_weights() {
  local origin
  origin=$(dirname -- "$3")/origin.txt
  if [ -e "$3" ]; then
    if [ -e "$origin" ] && ! grep -qxF -- "$1" "$origin"; then
      die "$3 is another network ($(head -n 1 -- "$origin")); move its folder away first"
    fi
    echo "$3 is there already; it was left as it is (to fetch it anew, move it away first)"
    return 0
  fi
  fetch "$2" "./checkpoints/$1_${2##*/}.part" weights_as "$3"
  printf '%s\n%s\n' "$1" "$2" >"$origin"
}

# A network is a pickle or, since torch 1.6, a zip, whose checksums can be tried.
weights_as() {
  case "$(head -c 1 -- "$2" | od -An -tx1 | tr -d ' \n')" in
    80) ;;
    50) "$python" -c 'import sys, zipfile; sys.exit(zipfile.ZipFile(sys.argv[1]).testzip() is not None)' "$2" \
      2>/dev/null || { echo "error: $2 is broken" >&2; return 3; } ;;
    *) echo "error: $2 is no PyTorch checkpoint" >&2; return 3 ;;
  esac
  file_as "$1" "$2"
}

file_as() {
  mkdir -p -- "$(dirname -- "$1")" && mv -- "$2" "$1"
}
