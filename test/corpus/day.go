// SPDX-License-Identifier: Apache-2.0

package corpus

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// dayAssets is how many assets the projects of a day have: a day works in hundreds of them.
const dayAssets = 20

// Day is a long session of benign work in one sandbox: the benign sessions of the corpus one after the other, each in
// a home of its own, in an order of its own, over and over.
type Day struct {
	Took time.Duration
	// Pieces is how many benign sessions it was made of, Events and Execs what was told of them, Missing how many
	// events were lost.
	Pieces, Events, Execs, Missing int
	Findings                       []Finding
	// Failed is the pieces that ended in failure.
	Failed []string
}

// daily is the sessions of which a day can be made: those that need no settings of their own.
func daily(sessions []Session) []*Session {
	var all []*Session
	for i := range sessions {
		s := &sessions[i]
		if s.Attack || s.Learns > 0 || s.Detectors != "" || len(s.Flags) > 0 || s.Lacks() != "" {
			continue
		}
		all = append(all, s)
	}
	return all
}

// dayScript works through the pieces that are laid out, until the time is over.
const dayScript = `set -u
n=0
while ((SECONDS < LENGTH)); do
	until [ -e "$PIECES/$n" ]; do sleep 0.2; done
	read -r home piece <"$PIECES/$n"
	HOME=$home WORK=$home/work bash "$PIECES/$piece.sh" || echo "$piece" >>"$PIECES/failed"
	echo "$n" >"$PIECES/done"
	n=$((n + 1))
done
`

// Day works for so long, in the order that the seed gives.
func (c *Corpus) Day(ctx context.Context, sessions []Session, length time.Duration, seed uint64) (Day, error) {
	var day Day
	pieces := daily(sessions)
	output, err := os.MkdirTemp(c.world.dir, "day-")
	if err != nil {
		return day, err
	}
	if err := layOut(output, pieces); err != nil {
		return day, err
	}
	template, err := home(dayAssets)
	if template != "" {
		defer func() { _ = os.RemoveAll(template) }()
	}
	if err != nil {
		return day, err
	}
	if err := commit(ctx, template); err != nil {
		return day, err
	}
	ahead, stop := context.WithCancel(ctx)
	prepared := make(chan error, 1)
	go func() { prepared <- prepare(ahead, output, template, shuffled(pieces, seed)) }()
	err = c.work(ctx, &day, output, template, length)
	stop()
	if err := errors.Join(err, <-prepared); err != nil {
		return day, err
	}
	last, err := os.ReadFile(filepath.Join(output, "done"))
	if err != nil {
		return day, err
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(last)))
	if err != nil {
		return day, err
	}
	day.Pieces = n + 1
	failed, err := os.ReadFile(filepath.Join(output, "failed"))
	if err == nil {
		day.Failed = strings.Fields(string(failed))
	}
	return day, nil
}

// layOut writes the scripts of the pieces.
func layOut(output string, pieces []*Session) error {
	first, err := prelude()
	if err != nil {
		return err
	}
	for _, s := range pieces {
		if err := os.WriteFile(filepath.Join(output, s.Name+".sh"), []byte(first+s.Script), 0o600); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(output, "day"), []byte(dayScript), 0o600)
}

// shuffled is names of pieces without end: all of them, then all of them in another order.
func shuffled(pieces []*Session, seed uint64) func() string {
	random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // an order, and no secret
	var left []string
	return func() string {
		if len(left) == 0 {
			for _, i := range random.Perm(len(pieces)) {
				left = append(left, pieces[i].Name)
			}
		}
		name := left[0]
		left = left[1:]
		return name
	}
}

// prepare makes homes a few pieces ahead of the work, and removes those that it has left, until ctx ends. The sandbox
// must do neither: who copies keys and removes repositories is no developer at work.
func prepare(ctx context.Context, output, template string, next func() string) error {
	const ahead, kept = 3, 2
	var homes []string
	defer func() {
		for _, dir := range homes {
			_ = os.RemoveAll(dir)
		}
	}()
	for n := 0; ctx.Err() == nil; {
		done := -1
		if text, err := os.ReadFile(filepath.Join(output, "done")); err == nil {
			done, _ = strconv.Atoi(strings.TrimSpace(string(text)))
		}
		for len(homes) > 0 && n-len(homes) < done-kept {
			_ = os.RemoveAll(homes[0])
			homes = homes[1:]
		}
		if n-done > ahead {
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
			continue
		}
		dir := template + "-" + strconv.Itoa(n)
		homes = append(homes, dir)
		if out, err := exec.Command("cp", "-a", template, dir).CombinedOutput(); err != nil {
			return fmt.Errorf("make a home: %w: %s", err, out)
		}
		// Renamed into place: the work must not read half of it.
		file := filepath.Join(output, strconv.Itoa(n))
		if err := errors.Join(os.WriteFile(file+".new", []byte(dir+" "+next()+"\n"), 0o600), os.Rename(file+".new", file)); err != nil {
			return err
		}
		n++
	}
	return nil
}

// work runs the day and reads what is told of it while it is told: nobody has room for all of it.
func (c *Corpus) work(ctx context.Context, day *Day, output, dir string, length time.Duration) error {
	settings, events := filepath.Join(output, "config.yaml"), filepath.Join(output, "events.jsonl")
	if err := errors.Join(os.WriteFile(settings, []byte(configuration(&Session{})), 0o600), syscall.Mkfifo(events, 0o600)); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, length+10*time.Minute)
	defer cancel()
	// For writing too, so that opening waits for nobody and the end comes when both writers are gone.
	pipe, err := os.OpenFile(events, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	type reading struct {
		account
		err error
	}
	read1 := make(chan reading, 1)
	from, err := os.Open(events)
	if err != nil {
		return err
	}
	go func() {
		defer from.Close() //nolint:errcheck // only read
		told, err := read(from)
		read1 <- reading{told, err}
	}()
	cmd := c.watch(ctx, dir, []string{"--config", settings, "--json", events, "--", "bash", filepath.Join(output, "day")})
	cmd.Env = append(cmd.Env, "PIECES="+output, "LENGTH="+strconv.Itoa(int(length.Seconds())))
	began := time.Now()
	out, err := cmd.CombinedOutput()
	day.Took = time.Since(began)
	_ = pipe.Close()
	told := <-read1
	if err := errors.Join(err, told.err); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	day.Findings, day.Events, day.Execs, day.Missing = told.findings, told.events, told.execs, told.missing
	return nil
}
