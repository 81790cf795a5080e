// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/watchglass/watchglass/collector/journal"
)

func newVerify() *cobra.Command {
	var where journalFlags
	var keyPath string
	var anchors []string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify [FOLDER]",
		Short: "Prove that nobody changed the journal",
		Long: `Hold the journal against its chain of hashes, its signatures and its own account of
what was removed for lack of room. The exit code is 0 when all of it is what the
collector wrote, and 1 when anything was edited, removed, reordered or cut off; the
first bad frame is named then.

Whoever can write the folder can replace the public key in it too, and can take the
whole folder back to how it was before: give --key and --anchor files that were kept
elsewhere (watchglass journal key; a copy of head.json).`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				where.dir = args[0]
			}
			report, err := verify(&where, keyPath, anchors)
			if err != nil {
				return err
			}
			write := writeVerifyText
			if asJSON {
				write = writeVerifyJSON
			}
			if err := write(cmd.OutOrStdout(), report); err != nil {
				return err
			}
			if keyPath == "" {
				_, _ = fmt.Fprintln(os.Stderr, "watchglass: the public key was taken from the journal itself; --key proves more")
			}
			if !report.Good() {
				return &exitError{code: 1}
			}
			return nil
		},
	}
	where.add(cmd)
	cmd.Flags().StringVar(&keyPath, "key", "", "the public key that must have signed, a PEM `file`")
	cmd.Flags().StringArrayVar(&anchors, "anchor", nil, "a copy of head.json that was kept elsewhere, a `file`; may be given again")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	return cmd
}

func verify(where *journalFlags, keyPath string, anchors []string) (*journal.Report, error) {
	dir, err := where.where()
	if err != nil {
		return nil, err
	}
	var proof journal.Proof
	if proof.Key, err = journal.ReadPublicKey(keyPath, dir); err != nil {
		return nil, err
	}
	for _, path := range anchors {
		list, err := journal.ReadAnchors(path)
		if err != nil {
			return nil, err
		}
		proof.Anchors = append(proof.Anchors, list...)
	}
	return journal.Verify(dir, proof)
}

func writeVerifyJSON(w io.Writer, report *journal.Report) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(report); err != nil {
		return fmt.Errorf("print the report: %w", err)
	}
	return nil
}

func writeVerifyText(w io.Writer, report *journal.Report) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "LANE\tFILES\tBYTES\tRECORDS\tSIGNED UNTIL\tSIGNED AT\tREMOVED\tLOST IN CRASHES")
	for i := range report.Lanes {
		l := &report.Lanes[i]
		records, signed, at := "none", "-", "-"
		if l.Next > l.First {
			records = fmt.Sprintf("%d to %d", l.First, l.Next-1)
		}
		if l.Checkpoints > 0 {
			signed, at = fmt.Sprint(l.Signed-1), l.SignedAt.UTC().Format(time.RFC3339)
		}
		_, _ = fmt.Fprintf(table, "%s\t%d\t%d\t%s\t%s\t%s\t%d\t%d\n",
			l.Name, l.Segments, l.Bytes, records, signed, at, max(l.First, 1)-1, l.Missing)
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("print the report: %w", err)
	}
	if report.Live {
		_, _ = fmt.Fprintln(w, "A collector is writing it: what came meanwhile is not looked at.")
	}
	for i := range report.Lanes {
		if l := &report.Lanes[i]; l.Fault != nil {
			_, _ = fmt.Fprintf(w, "WRONG in the lane %s: %s\n", l.Name, l.Fault)
		}
	}
	if report.Good() {
		_, _ = fmt.Fprintf(w, "All of it is what was written. Key: %s\n", report.Key)
	}
	return nil
}

func newJournal() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "journal",
		Short: "Keep the journal's key, and look after what destinations refused",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newJournalKey(), newJournalQuarantine(), newJournalResend())
	return cmd
}

func newJournalKey() *cobra.Command {
	var where journalFlags
	cmd := &cobra.Command{
		Use:   "key",
		Short: "Print the public key with which the journal is verified",
		Long: `Print the public key with which the journal is verified, as PEM; its fingerprint goes
to standard error. Keep it where who can write the journal cannot, and pass it to
watchglass verify --key.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := where.where()
			if err != nil {
				return err
			}
			key, err := journal.ReadPublicKey("", dir)
			if err != nil {
				return err
			}
			text, err := journal.EncodePublicKey(key)
			if err != nil {
				return err
			}
			_, _ = fmt.Fprintln(os.Stderr, journal.Fingerprint(key))
			if _, err := cmd.OutOrStdout().Write(text); err != nil {
				return fmt.Errorf("print the key: %w", err)
			}
			return nil
		},
	}
	where.add(cmd)
	return cmd
}
