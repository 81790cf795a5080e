// SPDX-License-Identifier: Apache-2.0

// Command vm runs the kernel tests on other kernels: Debian's, booted under qemu.
//
// It owns getting a kernel package, packing the packages' test binaries and a small init into an
// initramfs, booting it without any accelerator, and passing on the verdict. It must not install a
// kernel on this machine, need a network inside the guest, or know any single test.
//
//	go run ./test/vm [-arch amd64|arm64] [-kernel 6.1,6.12] [-plan PLAN,…] [-run REGEXP] [-skip PLAN:REGEXP] [-brief KERNEL:PLAN,…] [-shares N] [-tree DIRECTORY] [-env NAME=VALUE,…] [-limit DURATION] PACKAGE...
//	go run ./test/vm -counted -bench REGEXP [-kernel 6.1,6.12] [-plan PLAN,…] [-tree DIRECTORY] PACKAGE...
//
// Needed commands, from Debian: apt-get, dpkg, cpio, busybox (static), qemu-system-x86_64, qemu-system-aarch64.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// beyondTests is how much longer than its tests a machine may take: it boots, and says what came of them.
const beyondTests = 5 * time.Minute

func main() {
	arch := flag.String("arch", "amd64", "of which architecture the machines are: amd64 or arm64")
	kernels := flag.String("kernel", "6.1,6.12", "comma-separated kernel series to test on")
	run := flag.String("run", "^TestKernel", "which tests")
	skip := flag.String("skip", "", "which tests are left out under one of the plans: PLAN:REGEXP")
	bench := flag.String("bench", "", "which benchmarks to run, once each, in place of tests")
	counted := flag.Bool("counted", false, "have the machines' clock count instructions: what is measured by it is the same each time, whatever else the host does")
	plans := flag.String("plan", "tracepoint", "comma-separated hook plans that the probes are to follow, on a machine for each: tracepoint, trampoline, or auto to let them choose")
	brief := flag.String("brief", "", "comma-separated kernels and plans, KERNEL:PLAN, under which tests that open a tracer of their own are left out, on one machine")
	shares := flag.Int("shares", 1, "on how many machines of each kernel and plan the tests are run, each a share of them")
	verbose := flag.Bool("v", false, "show what each test says")
	tree := flag.String("tree", "", "a directory whose content is put into the machine's root besides; what it has in bin takes the place of busybox's")
	env := flag.String("env", "", "comma-separated variables that the tests find in their environment: NAME=VALUE,…")
	limit := flag.Duration("limit", 25*time.Minute, "how long the tests of one package may take on one machine")
	cache := flag.String("cache", ".cache/vm", "where kernel packages are kept")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	o := options{
		arch: *arch, kernels: strings.Split(*kernels, ","), run: *run, skip: *skip, bench: *bench, plans: strings.Split(*plans, ","),
		shares: *shares, brief: strings.Split(*brief, ","),
		counted: *counted, verbose: *verbose, tree: *tree, limit: *limit, cache: *cache, packages: flag.Args(),
	}
	if *env != "" {
		o.env = strings.Split(*env, ",")
	}
	if err := matrix(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "vm:", err)
		os.Exit(1)
	}
}

type options struct {
	arch     string
	kernels  []string
	run      string
	skip     string
	bench    string
	plans    []string
	shares   int
	brief    []string
	counted  bool
	verbose  bool
	tree     string
	env      []string
	limit    time.Duration
	cache    string
	packages []string
}

func matrix(ctx context.Context, o options) error {
	if len(o.packages) == 0 {
		return errors.New("no package named: say which packages' tests to run")
	}
	if o.shares < 1 {
		return fmt.Errorf("tests cannot be run in %d shares", o.shares)
	}
	if o.skip != "" && !strings.Contains(o.skip, ":") {
		return fmt.Errorf("%q does not say under which plan tests are left out", o.skip)
	}
	if o.bench != "" && o.shares > 1 {
		return errors.New("benchmarks cannot be run in shares")
	}
	if o.limit <= 0 {
		return fmt.Errorf("tests cannot be run in %s", o.limit)
	}
	for _, v := range o.env {
		if name, _, found := strings.Cut(v, "="); !found || name == "" || strings.ContainsAny(v, "\n\x00") {
			return fmt.Errorf("%q is no variable: NAME=VALUE is", v)
		}
	}
	emulator, err := emulatorOf(o.arch, o.counted)
	if err != nil {
		return err
	}
	packages, err := openArchive(ctx, o.cache, o.arch)
	if err != nil {
		return fmt.Errorf("looking for packages: %w", err)
	}
	work, err := os.MkdirTemp("", "watchglass-vm-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }()
	root := filepath.Join(work, "root")
	if err := fill(ctx, root, &o, packages); err != nil {
		return fmt.Errorf("packing the initramfs: %w", err)
	}
	machines, failed := o.machines(ctx, work, packages)
	// A machine takes one processor, and waits for part of its time: twice as many run at a time.
	var (
		wait  sync.WaitGroup
		rooms = make(chan struct{}, 2*runtime.NumCPU())
		out   = &console{to: os.Stdout}
		errs  = make([]error, len(machines))
	)
	for i, m := range machines {
		m.emulator, m.out = emulator, out
		rooms <- struct{}{}
		wait.Go(func() {
			defer func() { <-rooms }()
			start, verdict := time.Now(), "ok"
			worked, err := boot(ctx, m)
			if err != nil {
				verdict, errs[i] = "FAIL", fmt.Errorf("kernel %s (%s): %w", m.name, m.kernel.name, err)
			}
			out.print(fmt.Sprintf("%s\tkernel %s (%s)\tplan %s\t%.1fs, of which %.1fs at work",
				verdict, m.name, m.kernel.name, m.plan, time.Since(start).Seconds(), worked.Seconds()))
		})
	}
	wait.Wait()
	return errors.Join(append(errs, failed)...)
}

// machines is what is to be booted, in that order, and why it is not all.
func (o *options) machines(ctx context.Context, work string, packages *archive) (machines []machine, failed error) {
	var kernels []machine
	for _, series := range o.kernels {
		m := machine{counted: o.counted, limit: o.limit, name: machineName(o.arch, series), initramfs: filepath.Join(work, "initramfs-"+series)}
		var err error
		if m.kernel, err = packages.kernel(ctx, series); err == nil {
			err = pack(ctx, filepath.Join(work, "root"), m.kernel.modules, m.initramfs)
		}
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("kernel %s: %w", series, err))
			continue
		}
		kernels = append(kernels, m)
	}
	var brief []machine
	for _, plan := range o.plans {
		for _, m := range kernels {
			m.brief = slices.Contains(o.brief, m.name+":"+plan)
			if m.plan = plan; len(o.plans) > 1 {
				m.name += " " + plan
			}
			if m.brief {
				brief = append(brief, m)
				continue
			}
			for share := range o.shares {
				one := m
				if o.shares > 1 {
					one.share = fmt.Sprintf("%d/%d", share+1, o.shares)
					one.name += " " + one.share
				}
				machines = append(machines, one)
			}
		}
	}
	// What takes long comes first.
	return append(machines, brief...), failed
}

// console is where machines that run at the same time write to, line by line.
type console struct {
	mu sync.Mutex
	to io.Writer
}

func (c *console) print(line string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, _ = fmt.Fprintln(c.to, line)
}

// machine is what is booted, and where what it says goes, behind its name.
type machine struct {
	emulator        []string
	kernel          *kernel
	initramfs, name string
	// plan is the hook plan that the probes are to follow.
	plan string
	// share is which of the tests it runs, "2/3" for the second third; "" for all.
	share string
	// brief is whether tests that open a tracer of their own are left out.
	brief bool
	// counted is whether its clock counts instructions.
	counted bool
	// limit is how long the tests of one package may take.
	limit time.Duration
	out   *console
}

// machineName is what a machine's lines begin with.
func machineName(arch, series string) string {
	if arch == "amd64" {
		return series
	}
	return arch + " " + series
}

// emulatorOf is the command that emulates a machine of an architecture; the last argument is the kernel's.
func emulatorOf(arch string, counted bool) ([]string, error) {
	switch arch {
	case "amd64":
		// A processor that says that its string instructions are fast is given bytes to copy and to clear by kernel and Go. An
		// emulator takes each by itself, which takes long. What was counted before was counted with them.
		processor := "max"
		if !counted {
			processor += ",-erms,-fsrm"
			// The flags after a cmpxchg16b can be wrong in qemu 7.2, for those who look at them before others are set: an
			// interrupt that comes between made a kernel panic by a double fault. Kernels do without it.
			processor += ",-cx16"
		}
		return []string{"qemu-system-x86_64", "-cpu", processor, "-append", "console=ttyS0 " + kernelArguments}, nil
	case "arm64":
		// Pointers are signed by a simple function: the architecture's own takes most of the time when it is emulated.
		return []string{"qemu-system-aarch64", "-M", "virt", "-cpu", "max,pauth-impdef=on", "-append", "console=ttyAMA0 " + kernelArguments}, nil
	default:
		return nil, fmt.Errorf("there are no machines of architecture %q; there are amd64 and arm64", arch)
	}
}

// kernelArguments: letting go of a tracepoint waits for RCU, hundreds of times in a run, and an emulated machine that is
// left to itself takes its time for that: most of what the tests took. And whether the timer's interrupts arrive is not
// tried: on a busy host an emulated one sometimes comes too late for that, and the machine panics.
const kernelArguments = "quiet panic=-1 lsm=lockdown,yama,bpf rcupdate.rcu_expedited=1 no_timer_check"

// fill makes what the machines' root holds: busybox, the init, and one static test binary with its testdata per package.
func fill(ctx context.Context, root string, o *options, packages *archive) error {
	for _, dir := range []string{"bin", "sbin", "usr", "tests", "proc", "sys", "dev", "tmp", "run", "root", "etc"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			return err
		}
	}
	if o.tree != "" {
		if err := os.CopyFS(root, os.DirFS(o.tree)); err != nil {
			return fmt.Errorf("putting %s into the machine: %w", o.tree, err)
		}
	}
	busybox, err := packages.busybox(ctx)
	if err != nil {
		return err
	}
	if err := shell(ctx, root, busybox); err != nil {
		return err
	}
	if err := build(ctx, o.arch, "go", "build", "-o", filepath.Join(root, "init"), "./test/vm/init"); err != nil {
		return err
	}
	dirs, err := output(ctx, "", "go", append([]string{"list", "-f", "{{.Dir}} {{.ImportPath}}"}, o.packages...)...)
	if err != nil {
		return err
	}
	for line := range strings.Lines(dirs) {
		dir, path, _ := strings.Cut(strings.TrimSpace(line), " ")
		if err := testBinary(ctx, o.arch, root, dir, path); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(root, "tests", "environment"), []byte(strings.Join(o.env, "\n")), 0o644); err != nil {
		return err
	}
	for _, plan := range o.plans {
		if err := os.WriteFile(filepath.Join(root, "tests", "args-"+plan), []byte(testArguments(o, plan)), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// pack builds the initramfs of one kernel: the root, and the kernel's modules.
func pack(ctx context.Context, root, kernelModules, initramfs string) error {
	own := filepath.Join(root, modules)
	if err := os.RemoveAll(own); err != nil {
		return err
	}
	if err := os.CopyFS(own, os.DirFS(kernelModules)); err != nil {
		return err
	}
	_, err := output(ctx, root, "sh", "-c", `find . | cpio --quiet -o -H newc > "$0"`, initramfs)
	return err
}

// testArguments is what each test binary is started with under a plan, one argument on a line.
func testArguments(o *options, plan string) string {
	// Short: what is many elsewhere is some in an emulated machine.
	args := fmt.Sprintf("-test.short\n-test.timeout=%s\n", o.limit)
	if o.bench != "" {
		args += "-test.run=^$\n-test.bench=" + o.bench + "\n-test.benchtime=1x\n"
	} else {
		args += "-test.run=" + o.run + "\n"
	}
	if of, skipped, found := strings.Cut(o.skip, ":"); found && of == plan {
		args += "-test.skip=" + skipped + "\n"
	}
	if o.verbose {
		args += "-test.v\n"
	}
	return args
}

// shell puts a static busybox and links for its commands into the image, but for those that are there, and users for tests
// that change theirs.
func shell(ctx context.Context, root, busybox string) error {
	if err := copyFile(busybox, filepath.Join(root, "bin", "busybox")); err != nil {
		return err
	}
	// The commands of this machine's, which is of the same release.
	list, err := output(ctx, "", "busybox", "--list")
	if err != nil {
		return err
	}
	for name := range strings.Lines(list) {
		name = strings.TrimSpace(name)
		if name == "" || name == "busybox" {
			continue
		}
		if err := os.Symlink("busybox", filepath.Join(root, "bin", name)); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	if err := os.Symlink("../bin", filepath.Join(root, "usr", "bin")); err != nil {
		return err
	}
	users := "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n"
	return os.WriteFile(filepath.Join(root, "etc", "passwd"), []byte(users), 0o644)
}

func testBinary(ctx context.Context, arch, root, dir, path string) error {
	target := filepath.Join(root, "tests", filepath.FromSlash(path))
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	if err := build(ctx, arch, "go", "test", "-c", "-o", filepath.Join(target, filepath.Base(dir)+".test"), path); err != nil {
		return err
	}
	data := filepath.Join(dir, "testdata")
	if _, err := os.Stat(data); err != nil {
		return nil //nolint:nilerr // a package without test data is fine
	}
	return os.CopyFS(filepath.Join(target, "testdata"), os.DirFS(data))
}

// build runs the Go tool without cgo: the guest has no C library.
func build(ctx context.Context, arch, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH="+arch)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, out)
	}
	return nil
}

// boot runs one machine, copies what it says and returns the processor time that it took, and an error unless its verdict is 0.
func boot(ctx context.Context, m machine) (worked time.Duration, err error) {
	limit := m.limit + beyondTests
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, m.emulator[0], m.arguments()...)
	cmd.Stderr = os.Stderr
	says, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("starting qemu (Debian: qemu-system-x86, qemu-system-arm): %w", err)
	}
	verdict := follow(says, m)
	err = cmd.Wait()
	worked = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	if err != nil && ctx.Err() != nil {
		return worked, fmt.Errorf("the machine did not finish in %s: %w", limit, ctx.Err())
	}
	switch verdict {
	case "0":
		return worked, nil
	case "":
		return worked, errors.New("the machine ended without a verdict: it crashed or did not boot")
	default:
		return worked, errors.New("tests failed")
	}
}

// arguments is those of the machine's emulator.
func (m *machine) arguments() []string {
	args := slices.Clone(m.emulator[1:])
	args[len(args)-1] += " watchglass.plan=" + m.plan + " watchglass.limit=" + m.limit.String()
	if m.share != "" {
		args[len(args)-1] += " watchglass.share=" + m.share
	}
	if m.brief {
		args[len(args)-1] += " watchglass.brief=1"
	}
	// One thread for both processors: with two, one can meet the breakpoint by which the kernel patches a
	// tracepoint's code after the other took the patch for done, and the machine panics (seen with qemu
	// 7.2 and Linux 6.12). Real processors order that.
	processors := "2"
	if m.counted {
		// What one processor executes is counted for all of them: one is all there are. Where nothing is to be executed,
		// the clock is put forward to when there will be.
		processors = "1"
		args[len(args)-1] += " " + countedArguments
		args = append(args, "-icount", "shift=0,sleep=off", "-seed", "1", "-rtc", "base=2026-01-01,clock=vm")
	}
	return append(args, "-accel", "tcg,thread=single", "-smp", processors, "-m", "2048",
		"-kernel", m.kernel.image, "-initrd", m.initramfs, "-nographic", "-no-reboot", "-nodefaults", "-serial", "stdio", "-net", "none")
}

// countedArguments is what the kernel of a machine whose clock counts instructions is started with besides. That clock is
// the processor's counter, which the kernel is to trust; addresses that are drawn by lot would make each run another one.
const countedArguments = "tsc=reliable nokaslr norandmaps"

// terminalCommands is what a firmware sends to a terminal: it would clear the reader's, or reset it.
const terminalCommands = `\x1b(?:\[[0-9;?]*[A-Za-z]|c)`

// follow copies what the machine says and returns what stands behind the last VM-EXIT.
func follow(says io.Reader, m machine) string {
	verdict := ""
	commands := regexp.MustCompile(terminalCommands)
	lines := bufio.NewScanner(says)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := commands.ReplaceAllString(strings.TrimRight(lines.Text(), "\r"), "")
		if code, ok := strings.CutPrefix(line, "VM-EXIT "); ok {
			verdict = code
			continue
		}
		m.out.print(m.name + "\t" + line)
	}
	return verdict
}

func output(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(stderr.String()))
	}
	return string(out), nil
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		_ = out.Close()
		return err
	}
	return out.Close()
}
