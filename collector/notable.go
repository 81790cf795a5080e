// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"strconv"

	"github.com/watchglass/watchglass/bpf"
	"github.com/watchglass/watchglass/event"
)

// called completes what the kernel told of a notable call, and is who made it.
func (p *Pipeline) called(r *bpf.Record, call *event.SyscallNotable) *event.Process {
	if call.Target != nil {
		call.Target.UID = p.tree.Identity(call.Target.PID, call.Target.Start)
	}
	who := p.tree.Seen(r)
	if call.Target == nil && call.Error == 0 {
		call.Target = p.targetOf(r, who, call)
	}
	return who
}

// targetOf is the process that a call took hold of, by the number that it was given in the caller's PID namespace; nil
// when the call is none of that kind, or nobody knows who it was.
func (p *Pipeline) targetOf(r *bpf.Record, who *event.Process, call *event.SyscallNotable) *event.Target {
	switch call.Name {
	case "ptrace", "process_vm_readv", "process_vm_writev":
	default:
		return nil
	}
	var number uint64
	for _, a := range call.Arguments {
		if a.Name == "pid" && !a.Claimed {
			number, _ = strconv.ParseUint(a.Value, 10, 32)
		}
	}
	if number == 0 {
		return nil // it asks to be traced itself
	}
	target, its := p.tree.Numbered(r, uint32(number))
	switch {
	case target == nil && who.VPID != who.PID:
		return nil // a number of a namespace in which nobody of that number was seen
	case target == nil:
		return &event.Target{PID: uint32(number), Foreign: true}
	}
	return &event.Target{PID: target.PID, UserID: target.UserID, Name: target.Name, UID: target.UID, Foreign: !its}
}

// cloned publishes the birth of a process in namespaces of its own as the notable call that it was: the flags
// are the kernel's, where clone3 only points to the caller's. It is told of the child, as all that is known of the
// parent then is that it is the parent.
func (p *Pipeline) cloned(state *sandboxState, r *bpf.Record, child *event.Process, fork *bpf.Fork) {
	flags := fork.NewNamespaces()
	if flags == "" {
		return
	}
	p.publish(&event.Event{
		Time: r.Time, Sandbox: state.sandbox, Process: child, Payload: &event.SyscallNotable{
			Name: "clone", ABI: event.NativeABI(), Number: -1,
			Arguments: []event.SyscallArgument{{Name: "flags", Value: flags}},
			Result:    int64(r.Task.PID),
		},
	})
}

// credentials publishes a change of who a process acts as, when the record tells of that.
func (p *Pipeline) credentials(state *sandboxState, r *bpf.Record, who *event.Process) {
	var now *event.Credentials
	cause := event.CauseExec
	switch payload := r.Payload.(type) {
	case *event.ProcessExec:
		if payload.Privileges != nil {
			now = &payload.Privileges.Credentials
		}
	case *event.SyscallNotable:
		now, cause = payload.Credentials, payload.Name
	}
	if now == nil {
		return
	}
	before := p.tree.Acts(r, now)
	if before == nil || !before.Changed(now) {
		return
	}
	// No exec changes the real ids.
	if cause == event.CauseExec && (before.UserID != now.UserID || before.GroupID != now.GroupID) {
		cause = event.CauseUnknown
	}
	p.publish(&event.Event{Time: r.Time, Sandbox: state.sandbox, Process: who, Payload: &event.ProcessCredentials{
		Cause: cause, Before: *before, After: *now,
	}})
}
