// SPDX-License-Identifier: Apache-2.0

package adversary

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// attempt is one way to act unseen.
type attempt struct {
	name string
	// script is run by bash in a sandbox. $SECRET is a secret, $EVADE the C helper, $PRELOAD a library that reads the secret in
	// any program, $PYTHON a Python, $PORT a TCP port on loopback that takes connections, $DATAGRAM a UDP one, $SOCKET and
	// @$ABSTRACT unix sockets outside of the sandbox, of which the first hands out the opened secret.
	script string
	// want is what must be told, each as "kind body", a regular expression of an event's kind without "watchglass." and
	// its body; "N× " before it for at least N of them.
	want []string
	// config is what the attempt needs of the configuration, kernel what of its section of that name, "name: value".
	config, kernel string
	// beside is a script for a second sandbox of the same collector, at the same time, of which wantBeside must be told.
	beside     string
	wantBeside []string
	// check says what else is not told as it should be, of the attempt's sandbox and the one beside it.
	check func(told, other []line) (missing []string)
	// reuse says that two processes must be told which had one pid.
	reuse bool
	// limit is why it is not seen, as docs/limits.md says; "" for what is.
	limit string
}

const (
	readSecret  = `finding .*secret-read: .*credentials`
	movedSecret = `finding .*secret-(moved|read): .*credentials`
)

// attempts is all of them.
func attempts() []attempt {
	return []attempt{
		{
			// Each fork puts a byte into a file, so that its size is how many there were.
			name:   "fork bomb",
			script: forkBomb,
			want:   []string{readSecret, `process\.exec .*echo forks \d+`},
			check:  everyForkEnds,
		},
		{
			name: "a secret of another sandbox, handed over",
			script: `$PYTHON -c '
import os,socket,time
s=socket.socket(socket.AF_UNIX)
for i in range(600):
  try: s.connect(os.environ["HOME"]+"/between"); break
  except OSError: time.sleep(.1)
_,fds,_,_=socket.recv_fds(s,1,1); assert os.read(fds[0],1)'`,
			want: []string{`network\.socket connect unix .*between`, `file\.io read .*credentials`, readSecret},
			beside: `$PYTHON -c '
import os,socket
l=socket.socket(socket.AF_UNIX); l.bind(os.environ["HOME"]+"/between"); l.listen(); c,_=l.accept()
socket.send_fds(c,[b"x"],[os.open(os.environ["SECRET"],0)])'`,
			wantBeside: []string{readSecret},
		},
		{
			name: "a million opens, then a secret",
			script: `$PYTHON -c '
import os
for i in range(1000): open("f%d" % i, "w").close()
for i in range(1000000): os.close(os.open("f%d" % (i % 1000), 0))
open(os.environ["SECRET"]).read()'`,
			want: []string{readSecret},
		},
		{name: "io_uring", script: `"$EVADE" uring "$SECRET"`, want: []string{readSecret}},
		{
			// Neither open, read, mkdir, rename, unlink nor connect is called: a thread of the kernel's does it all.
			name:   "everything by io_uring",
			script: `"$EVADE" ring "$SECRET"`,
			want: []string{
				readSecret, `file\.create mkdir .*/ring-dir by io_uring`, `file\.link symlink .*/symlink → .*credentials by io_uring`,
				`file\.link .*credentials → .*/hardlink by io_uring`, `file\.rename .*/hardlink → .*/renamed by io_uring`,
				`file\.delete .*/renamed by io_uring`, `file\.io read 1 B, .*credentials by io_uring`,
				`network\.connect tcp 127\.0\.0\.1:\d+`, `network\.socket connect unix stream .*handover`,
			},
			check: connectsByRing,
		},
		{
			name: "openat2 with RESOLVE flags",
			script: `cd "$HOME" && $PYTHON -c '
import ctypes,os,struct
how=struct.pack("QQQ",0,0,0x08|0x04|0x02)
fd=ctypes.CDLL(None).syscall(437,-100,b".aws/credentials",how,24)
assert fd>=0; os.read(fd,1)'`,
			want: []string{readSecret},
		},
		{name: "arguments rewritten by a thread", script: `"$EVADE" race "$SECRET"`, want: []string{readSecret}},
		{name: "a path on a cold page", script: `"$EVADE" cold "$SECRET"`, want: []string{readSecret}},
		{
			name:   "/proc/self/mem",
			script: `$PYTHON -c 'open("/proc/self/mem","r+b")'`,
			want:   []string{`file\.open .*/proc/(self|\d+)/mem`},
		},
		{name: "/proc/PID/root", script: `cat /proc/$$/root"$SECRET"`, want: []string{readSecret}},
		{
			name:   "a bind mount over an innocent path",
			script: `touch innocent; unshare -m sh -c 'mount --bind "$SECRET" innocent && cat innocent'`,
			want:   []string{`syscall\.notable (mount|open_tree)\(.*credentials`, `finding .*secret-read: .*innocent`},
		},
		{name: "a hard link to a secret", script: `ln "$SECRET" innocent && cat innocent`, want: []string{movedSecret, `file\.open .*innocent`}},
		{name: "rename, then read", script: `mv "$SECRET" innocent && cat innocent`, want: []string{movedSecret, `file\.open .*innocent`}},
		{name: "open_by_handle_at", script: byHandle + `
fd=libc.syscall(304,mount,handle,0); assert fd>=0; os.read(fd,1)'`, want: []string{`syscall\.notable open_by_handle_at`, readSecret}},
		{name: "name_to_handle_at, and another process opens", script: byHandle + `
if os.fork()==0:
  fd=libc.syscall(304,mount,handle,0); os.read(fd,1); os._exit(0)
os.wait()'`, want: []string{readSecret}},
		{
			name: "memfd and fexecve",
			script: `$PYTHON -c '
import os
fd=os.memfd_create("innocent",0); os.write(fd,open("/bin/true","rb").read()); os.execve(fd,["true"],{})'`,
			want: []string{`syscall\.notable memfd_create`, `finding .*unbacked-exec`},
		},
		{
			// By another file in its place, and by other bytes in the same one. The collector may end before it has read the last.
			name: "a program replaced after its exec",
			script: `for i in $(seq 20); do cp /bin/true p$i; cp /bin/cat other; ./p$i; mv other p$i; done
for i in $(seq 20); do cp /bin/true q$i; ./q$i; cat /bin/cat >q$i; done`,
			want:   []string{`20× process\.hash .*/p\d+ `, `20× process\.hash .*/q\d+ `},
			config: "hashes: {enabled: true}\n",
			check:  noForeignHash,
		},
		{
			name:   "a script by its interpreter",
			script: `printf '#!/bin/cat\nx' >innocent; chmod +x innocent; ./innocent`,
			want:   []string{`process\.exec .*/bin/cat \./innocent`},
		},
		{
			name:   "LD_PRELOAD",
			script: `cp "$PRELOAD" p.so && LD_PRELOAD=$PWD/p.so /bin/true`,
			want:   []string{`file\.map .*/p\.so`, readSecret},
		},
		{
			name:   "vfork",
			script: `$PYTHON -c 'import os; os.waitpid(os.posix_spawn("/bin/cat",["cat",os.environ["SECRET"]],os.environ),0)'`,
			want:   []string{`process\.exec cat .*credentials`, readSecret},
		},
		{
			name: "a pid used again",
			script: `sh -c 'echo $$' >pid; pid=$(cat pid)
for i in $(seq 200); do echo $((pid-1)) >/proc/sys/kernel/ns_last_pid; sh -c 'echo $$ >pid; cat "$SECRET" >/dev/null'; [ "$(cat pid)" != "$pid" ] || exit 0; done; exit 1`,
			want:  []string{readSecret},
			reuse: true,
		},
		{
			// Three times over the end of the process ids.
			name: "pids used again at pid_max",
			script: `last=$(cat /proc/sys/kernel/pid_max)
for r in 1 2 3; do echo $((last-21)) >/proc/sys/kernel/ns_last_pid; for i in $(seq 40); do sh -c "exit 3"; done; done; cat "$SECRET"`,
			want:  []string{`120× process\.exit .*3`, readSecret},
			reuse: true,
		},
		{
			name: "nested cgroups, and a move out",
			script: `top=$(sed -n 's/^0:://p' /proc/self/cgroup); fs=$(awk '$3=="cgroup2"{print $2; exit}' /proc/mounts)
mkdir -p "$fs$top/a/b"; echo $$ >"$fs$top/a/b/cgroup.procs"; cat "$SECRET"; echo $$ >"$fs/cgroup.procs"; head -c1 "$SECRET"
echo $$ >"$fs$top/cgroup.procs"; rmdir "$fs$top/a/b" "$fs$top/a"`,
			want: []string{`2× process\.move .`, readSecret, `file\.open read .*credentials`, `process\.exec head .*credentials`},
		},
		{
			name:   "unshare and mount",
			script: `unshare -m sh -c 'mkdir m; mount -t tmpfs none m; cp "$SECRET" m/innocent; cat m/innocent'`,
			want:   []string{`syscall\.notable unshare\(CLONE_NEWNS`, readSecret, `file\.open .*m/innocent`},
		},
		{name: "32-bit system calls", script: `"$EVADE" compat "$SECRET"`, want: []string{readSecret}},
		{
			name: "a secret opened elsewhere and handed over",
			script: `$PYTHON -c '
import os,socket
s=socket.socket(socket.AF_UNIX); s.connect(os.environ["SOCKET"])
_,fds,_,_=socket.recv_fds(s,1,1); assert os.read(fds[0],1)'`,
			want: []string{`network\.socket connect unix .*handover`, `file\.io read .*credentials`, readSecret},
		},
		{
			name:   "an abstract socket of the host",
			script: `$PYTHON -c 'import os,socket; socket.socket(socket.AF_UNIX).connect("\0"+os.environ["ABSTRACT"])'`,
			want:   []string{`network\.socket connect unix .*@watchglass-adversary`},
		},
		{
			name: "DNS over another port",
			script: `$PYTHON -c '
import os,socket
q=b"\x12\x34\x01\0\0\1\0\0\0\0\0\0\x04evil\x07example\0\0\1\0\1"
socket.socket(socket.AF_INET,socket.SOCK_DGRAM).sendto(q,("127.0.0.1",int(os.environ["DATAGRAM"])))'`,
			want: []string{`network\.connect .*127\.0\.0\.1:\d+`},
		},
		{
			name: "the question of DNS over another port",
			script: `$PYTHON -c '
import os,socket
q=b"\x12\x34\x01\0\0\1\0\0\0\0\0\0\x04evil\x07example\0\0\1\0\1"
socket.socket(socket.AF_INET,socket.SOCK_DGRAM).sendto(q,("127.0.0.1",int(os.environ["DATAGRAM"])))'`,
			want:  []string{`dns\.\S+ .*evil\.example`},
			limit: "names are read from port 53 alone",
		},
		{
			name: "SNI in segments of one byte",
			script: `$PYTHON -c '
import os,socket,ssl,time
o=ssl.MemoryBIO(); c=ssl.create_default_context().wrap_bio(ssl.MemoryBIO(),o,server_hostname="evil.example")
try: c.do_handshake()
except ssl.SSLWantReadError: pass
s=socket.create_connection(("127.0.0.1",int(os.environ["PORT"]))); s.setsockopt(socket.IPPROTO_TCP,socket.TCP_NODELAY,1)
for b in o.read(): s.send(bytes([b]))
time.sleep(0.3)'`,
			want: []string{`(tls|network)\.\S+ .*evil\.example`},
		},
		{
			name:   "an IPv4 address mapped into IPv6",
			script: `$PYTHON -c 'import os,socket; socket.socket(socket.AF_INET6).connect(("::ffff:127.0.0.1",int(os.environ["PORT"])))'`,
			want:   []string{`network\.connect .*127\.0\.0\.1:\d+`},
		},
		{
			name:   "raw sockets",
			script: `$PYTHON -c 'import socket; socket.socket(socket.AF_INET,socket.SOCK_RAW,1); socket.socket(socket.AF_PACKET,socket.SOCK_RAW)'`,
			want:   []string{`finding .*raw-socket: .* inet socket`, `finding .*raw-socket: .* packet socket`},
		},
		{
			name:   "ptrace of the tracer",
			script: `"$EVADE" ptrace $PPID; cat "$SECRET"`,
			want:   []string{`syscall\.notable ptrace\(PTRACE_(ATTACH|SEIZE)`, readSecret},
		},
		{
			name:   "signals to the collector",
			script: `kill -STOP $PPID; kill -CONT $PPID; cat "$SECRET"`,
			want:   []string{`syscall\.notable (kill|signal|SIG).*STOP`, readSecret},
		},
		{
			name:   "filling the ring",
			kernel: "ring_bytes: 65536",
			script: `$PYTHON -c '
import os
for i in range(200000):
  try: os.close(os.open("nothing%d" % i, 0))
  except OSError: pass' ; cat "$SECRET"`,
			want: []string{`telemetry\.loss .`, `process\.exec cat .*credentials`, readSecret},
		},
		{
			// 20,000 files, 9,000 peers of datagrams by a socket for each and as many by one, whose exchanges end when nothing
			// has come for a minute, 500 connections that stay, 3,000 processes; the one beside it works on.
			name: "filling every map",
			script: `$PYTHON -c '
import os,socket
for i in range(20000):
  n="f%d" % i
  open(n,"w").close(); open(n).close(); open(n).close()
  fd=os.open(n,0); os.read(fd,1); os.close(fd)
k=[]
for i in range(9000):
  s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.sendto(b"x",("127.%d.%d.1" % (i//250,i%250),9)); s.close()
u=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)
for i in range(9000): u.sendto(b"x",("127.%d.%d.2" % (i//250,i%250),9))
for i in range(500): k.append(socket.create_connection(("127.0.0.1",int(os.environ["PORT"]))))
for i in range(3000):
  p=os.fork()
  if not p: os._exit(7)
  os.waitpid(p,0)
'; cat "$SECRET"`,
			want: []string{
				`500× network\.connect .*tcp`, `3000× process\.exit .*7`, `process\.exec cat .*credentials`, readSecret,
			},
			beside: `for i in $(seq 200); do /bin/true $i; : >"own$i"; (exec 3<>"/dev/tcp/127.0.0.1/$PORT"); done; head -c1 "$SECRET"`,
			wantBeside: []string{
				`200× process\.exec /bin/true \d+`, `200× network\.connect .*tcp`, `200× file\.(open|create) .*/own\d+`, readSecret,
			},
			check: lossesAreTheirs,
		},
		{
			name:   "filling the map of cgroups",
			kernel: "max_sandboxes: 64",
			script: `top=$(sed -n 's/^0:://p' /proc/self/cgroup); fs=$(awk '$3=="cgroup2"{print $2; exit}' /proc/mounts)
for i in $(seq 100); do mkdir "$fs$top/$i"; done; echo $$ >"$fs$top/100/cgroup.procs"; cat "$SECRET"
echo $$ >"$fs$top/cgroup.procs"; for i in $(seq 100); do rmdir "$fs$top/$i"; done; sleep 2`,
			want: []string{`telemetry\.loss .*cgroup`, readSecret},
		},
		{
			// Forth by an hour, back by two, and to where it would be.
			name: "the clock jumps",
			script: `$PYTHON -c '
import os,time
began=time.clock_gettime(time.CLOCK_REALTIME)-time.clock_gettime(time.CLOCK_MONOTONIC)
def jump(by): time.clock_settime(time.CLOCK_REALTIME,began+time.clock_gettime(time.CLOCK_MONOTONIC)+by)
try:
  for by in 3600,-3600:
    jump(by)
    with open(os.environ["SECRET"]) as f: f.read()
finally: jump(0)'; cat "$SECRET"; head -c1 "$SECRET"`,
			want: []string{
				`3× syscall\.notable clock_settime`, readSecret, `process\.exec cat .*credentials`, `process\.exec head .*credentials`,
				`process\.exit .*`,
			},
		},
		{
			// With a fork: on Linux 6.1 who has asked for another clock can have no children that share its memory, as shells do.
			name:   "another clock, by a namespace",
			script: `unshare -T --fork --boottime 100000000 --monotonic 100000000 sh -c 'cat "$SECRET"'`,
			want:   []string{`syscall\.notable unshare\(CLONE_NEWTIME`, `process\.exec cat .*credentials`, readSecret},
			check:  agesAreReal,
		},
	}
}

// byHandle finds a secret's handle.
const byHandle = `$PYTHON -c '
import ctypes,os,struct
libc=ctypes.CDLL(None); handle=ctypes.create_string_buffer(struct.pack("Ii",128,0)+b"\0"*128); at=ctypes.c_int()
assert libc.syscall(303,-100,os.environ["SECRET"].encode(),handle,ctypes.byref(at),0)==0
mount=os.open(os.environ["HOME"],0)`

// forkBomb forks without end below a limit on the number of processes, of either version of cgroups, until there were four
// times as many.
const forkBomb = `cat >bomb.py <<'END'
import os,random,signal,sys,time
name,limit,v1,top="adversary-%d" % os.getpid(),150,"/sys/fs/cgroup/pids",""
def put(path,text):
  with open(path,"w") as f: f.write(text)
def processes(dir): return open(dir+"/cgroup.procs").read().split()
def move(source,dir):
  while processes(source):
    for p in processes(source):
      try: put(dir+"/cgroup.procs",p)
      except ProcessLookupError: pass
if os.path.isdir(v1): dir=v1+"/"+name
else:
  # A cgroup with processes of its own hands no controller down: the sandbox's go into a leaf meanwhile.
  mounts=[l.split() for l in open("/proc/mounts")]
  fs=[m[1] for m in mounts if m[2]=="cgroup2"][0]
  above=open("/proc/self/cgroup").read().strip().split("::")[1].strip("/").split("/")
  top="/".join([fs]+above); dir,leaf=top+"/"+name,top+"/leaf-"+name
  os.mkdir(leaf); move(top,leaf)
  for i in range(len(above)+1): put("/".join([fs]+above[:i])+"/cgroup.subtree_control","+pids")
os.mkdir(dir)
put(dir+"/pids.max",str(limit))
count=os.open("forks",os.O_CREAT|os.O_WRONLY|os.O_APPEND)
def bomb(eldest):
  while True:
    try: child=os.fork()
    except OSError:
      # So that others find room. The eldest stays, or all might end before there were enough.
      if not eldest and random.random()<.02: os._exit(0)
      time.sleep(.001)
      continue
    if child:
      os.write(count,b"x")
      continue
    eldest=False
    random.seed() # a child would draw the same lots as its parent
    if random.random()<.5: os._exit(0)
limited,say=os.pipe()
first=os.fork()
if not first:
  signal.signal(signal.SIGCHLD,signal.SIG_IGN)
  put(dir+"/cgroup.procs",str(os.getpid()))
  # No machine would outlive a bomb that is not limited.
  assert processes(dir)==[str(os.getpid())] and open(dir+"/pids.max").read().split()==[str(limit)]
  os.write(say,b"x"); os.close(say)
  bomb(True)
os.close(say)
assert os.read(limited,1)==b"x"
os.write(count,b"x")
while int(open(dir+"/pids.current").read())<limit or os.stat("forks").st_size<4*limit: time.sleep(.01)
put(dir+"/pids.max","0") # else those that are not killed yet may fork faster than they are killed
while True:
  pids=processes(dir)
  if not pids: break
  for p in pids:
    try: os.kill(int(p),9)
    except OSError: pass
  try:
    while os.waitpid(-1,os.WNOHANG)[0]: pass
  except OSError: pass
for i in range(500):
  try: os.rmdir(dir); break
  except OSError: time.sleep(.01)
if top:
  put(top+"/cgroup.subtree_control","-pids")
  move(leaf,top); os.rmdir(leaf)
END
$PYTHON bomb.py && /bin/echo forks $(stat -c %s forks); cat "$SECRET"`

// everyForkEnds holds the ends that are told to the forks that were counted.
func everyForkEnds(told, _ []line) []string {
	ends, forks := 0, 0
	for _, l := range told {
		switch l.Event {
		case "watchglass.process.exit":
			ends++
		case "watchglass.process.exec":
			if _, number, ok := strings.Cut(l.Body, "echo forks "); ok {
				forks, _ = strconv.Atoi(number)
			}
		}
	}
	if forks < 600 || ends < forks {
		return []string{fmt.Sprintf("the ends of all of %d processes: %d are told", forks, ends)}
	}
	return nil
}

// noForeignHash: of programs that were /bin/true when they were executed nothing else is told, unless it is marked.
func noForeignHash(told, _ []line) (foreign []string) {
	text, err := os.ReadFile("/bin/true")
	if err != nil {
		return []string{err.Error()}
	}
	own := sha256.Sum256(text)
	for _, l := range told {
		path, _ := l.Attributes["file.path"].(string)
		sum, _ := l.Attributes["watchglass.process.executable.hash.sha256"].(string)
		uncertain, _ := l.Attributes["watchglass.process.executable.hash.uncertain"].(bool)
		if l.Event != "watchglass.process.hash" || !regexp.MustCompile(`/[pq]\d+$`).MatchString(path) || sum == "" || uncertain {
			continue
		}
		if sum != hex.EncodeToString(own[:]) {
			foreign = append(foreign, "the right hash, or a mark: "+l.Body)
		}
	}
	return foreign
}

// lossesAreTheirs: what found no room was counted and told, of the one who filled everything, and of nobody else. Of peers of
// datagrams each is told, or counted.
func lossesAreTheirs(told, other []line) (missing []string) {
	const all = 2 * 9000
	peers, lost := map[any]bool{}, 0
	for _, l := range told {
		if l.Event == "watchglass.network.flow" && l.Attributes["network.transport"] == "udp" {
			peers[l.Attributes["network.peer.address"]] = true
		}
		if l.Event == "watchglass.telemetry.loss" && l.Attributes["watchglass.loss.kind"] == "network.flow by UDP" {
			count, _ := l.Attributes["watchglass.loss.count"].(float64)
			lost += int(count)
		}
	}
	if lost == 0 {
		missing = append(missing, "a loss of the one who filled the maps")
	}
	if len(peers)+lost < all {
		missing = append(missing, fmt.Sprintf("all of %d peers: %d are told, and %d lost", all, len(peers), lost))
	}
	for _, l := range other {
		if l.Event == "watchglass.telemetry.loss" {
			missing = append(missing, "no loss of the one beside: "+l.Body)
		}
	}
	return missing
}

// connectsByRing: what the attempt's own program connected to is marked as done by a ring, too. The shell that starts it may
// ask the name service cache who it runs as, by a call.
func connectsByRing(told, _ []line) (missing []string) {
	own := 0
	for _, l := range told {
		if l.Event != "watchglass.network.connect" && l.Event != "watchglass.network.socket" ||
			l.Attributes["process.executable.name"] != "evade" {
			continue
		}
		own++
		if l.Attributes["watchglass.via"] != "io_uring" {
			missing = append(missing, "by io_uring: "+l.Body)
		}
	}
	if own == 0 {
		missing = append(missing, "a connection of the program's")
	}
	return missing
}

// agesAreReal: no event is of a time other than the machine's, whatever a program makes of its own clock.
func agesAreReal(told, _ []line) (missing []string) {
	for _, l := range told {
		if age := time.Since(l.Time); age < 0 || age > 2*longest() {
			missing = append(missing, fmt.Sprintf("the time of %s: %v", l.Event, l.Time))
		}
	}
	return missing
}
