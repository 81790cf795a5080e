// SPDX-License-Identifier: Apache-2.0

package event

import (
	"slices"
	"strconv"
)

// KindProcessCredentials is a change of who a process acts as: of its ids or capabilities.
const KindProcessCredentials Kind = "watchglass.process.credentials"

// Causes of a change that are no system call.
const (
	// CauseExec is an exec: of a file with set-id bits or capabilities, or of any by what root means.
	CauseExec = "exec"
	// CauseUnknown is nothing that was seen: a call whose record was lost, or a hole in the kernel.
	CauseUnknown = "unknown"
)

// ProcessCredentials is one such change. The process's other threads may act as somebody else still.
type ProcessCredentials struct {
	// Cause is the name of the system call, CauseExec or CauseUnknown.
	Cause string
	// Before and After are as the kernel had them. Before is what was known last.
	Before, After Credentials
}

// Changed says whether ids, namespace, or what the process may do at once differ.
func (c *Credentials) Changed(to *Credentials) bool {
	a, b := *c, *to
	a.Inheritable, b.Inheritable, a.Bounding, b.Bounding, a.Ambient, b.Ambient = 0, 0, 0, 0, 0, 0
	return a != b
}

// Gained is the capabilities that the process may use now and could not before. Of another user namespace than before
// all are new.
func (p *ProcessCredentials) Gained() Capabilities {
	if p.Before.UserNamespace != p.After.UserNamespace {
		return p.After.Permitted
	}
	return p.After.Permitted &^ p.Before.Permitted
}

// BecameRoot says whether it acts as user 0 of the node now, and could not have before.
func (p *ProcessCredentials) BecameRoot() bool {
	before := []uint32{p.Before.UserID, p.Before.EffectiveUserID, p.Before.SavedUserID, p.Before.FSUserID}
	return p.After.EffectiveUserID == 0 && !slices.Contains(before, 0)
}

// Elevated says whether it may do more to the node than before: a gain in a user namespace of its own is none.
func (p *ProcessCredentials) Elevated() bool {
	return p.BecameRoot() || p.After.InitialUserNamespace() && p.Gained() != 0
}

// Kind implements Payload.
func (*ProcessCredentials) Kind() Kind { return KindProcessCredentials }

// Severity implements Payload.
func (p *ProcessCredentials) Severity() Severity {
	if p.Elevated() {
		return SeverityWarn
	}
	return SeverityInfo
}

// AppendAttributes implements Payload.
func (p *ProcessCredentials) AppendAttributes(dst []Attribute) []Attribute {
	dst = append(dst,
		Attribute{CredentialsCause, String(p.Cause)},
		Attribute{CredentialsElevated, Bool(p.Elevated())})
	for _, id := range []struct {
		key, was      Key
		before, after uint32
	}{
		{ProcessRealUserID, CredentialsOldRealUserID, p.Before.UserID, p.After.UserID},
		{CredentialsUserID, CredentialsOldUserID, p.Before.EffectiveUserID, p.After.EffectiveUserID},
		{ProcessSavedUserID, CredentialsOldSavedUserID, p.Before.SavedUserID, p.After.SavedUserID},
		{CredentialsGroupID, CredentialsOldGroupID, p.Before.EffectiveGroupID, p.After.EffectiveGroupID},
	} {
		if id.before != id.after {
			dst = append(dst, Attribute{id.was, Int(int64(id.before))}, Attribute{id.key, Int(int64(id.after))})
		}
	}
	dst = append(dst, Attribute{CredentialsGained, Strings(p.Gained().Names())})
	if p.Before.UserNamespace == p.After.UserNamespace {
		dst = append(dst, Attribute{CredentialsLost, Strings((p.Before.Permitted &^ p.After.Permitted).Names())})
	}
	return append(dst, Attribute{ProcessInitialUserNS, Bool(p.After.InitialUserNamespace())})
}

// AppendBody implements Payload.
func (p *ProcessCredentials) AppendBody(dst []byte) []byte {
	switch {
	case p.Before.EffectiveUserID != p.After.EffectiveUserID:
		dst = append(dst, "user "...)
		dst = strconv.AppendUint(dst, uint64(p.Before.EffectiveUserID), 10)
		dst = append(dst, " became "...)
		dst = strconv.AppendUint(dst, uint64(p.After.EffectiveUserID), 10)
	case p.Gained() != 0:
		dst = append(dst, "gained "...)
		dst = strconv.AppendInt(dst, int64(len(p.Gained().Names())), 10)
		dst = append(dst, " capabilities"...)
	default:
		dst = append(dst, "changed credentials"...)
	}
	if !p.After.InitialUserNamespace() {
		dst = append(dst, " in a user namespace"...)
	}
	dst = append(dst, " by "...)
	return append(dst, p.Cause...)
}
