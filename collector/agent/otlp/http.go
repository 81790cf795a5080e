// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"compress/gzip"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"strconv"
	"time"

	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

const (
	protobufType = "application/x-protobuf"
	jsonType     = "application/json"
)

func (r *Receiver) newHTTP() *http.Server {
	return &http.Server{
		Handler: r, ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader, ConnContext: withConn,
		ErrorLog: slog.NewLogLogger(r.settings.Logger.Handler(), slog.LevelDebug),
	}
}

// signalOf is the signal of a path.
func signalOf(path string) (Signal, bool) {
	switch path {
	case "/v1/logs":
		return Logs, true
	case "/v1/traces":
		return Traces, true
	case "/v1/metrics":
		return Metrics, true
	}
	return "", false
}

// ServeHTTP implements http.Handler.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, hr *http.Request) {
	signal, ok := signalOf(hr.URL.Path)
	if !ok {
		http.NotFound(w, hr)
		return
	}
	media, _, _ := mime.ParseMediaType(hr.Header.Get("Content-Type"))
	q := request{signal: signal, json: media == jsonType}
	from := originOf(hr.Context())
	partial, refused := r.serveHTTP(w, hr, &q, media)
	if refused != nil {
		r.stats.request(signal, refused.reason, from)
		r.logRefusal(signal, from, refused)
		answerRefusal(w, q.json, refused)
		return
	}
	r.stats.request(signal, reasonAccepted, from)
	answer(w, &q, partial)
}

func (r *Receiver) serveHTTP(w http.ResponseWriter, hr *http.Request, q *request, media string) (uint64, *refusal) {
	switch {
	case hr.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		return 0, wrongProtocol(http.StatusMethodNotAllowed, "only POST is served")
	case media != protobufType && media != jsonType:
		return 0, wrongProtocol(http.StatusUnsupportedMediaType, "the content type is neither "+protobufType+" nor "+jsonType)
	}
	from := originOf(hr.Context())
	if refused := r.admission.enter(from.Sandbox, time.Now()); refused != nil {
		return 0, refused
	}
	defer r.admission.leave(from.Sandbox)
	var refused *refusal
	if q.body, refused = r.read(w, hr); refused != nil {
		return 0, refused
	}
	return r.take(hr.Context(), from, *q)
}

// read reads the body, unpacked, within bounds.
func (r *Receiver) read(w http.ResponseWriter, hr *http.Request) ([]byte, *refusal) {
	packed := http.MaxBytesReader(w, hr.Body, int64(r.cfg.MaxBodyBytes))
	var body io.Reader = packed
	switch encoding := hr.Header.Get("Content-Encoding"); encoding {
	case "", "identity":
	case "gzip":
		z, err := gzip.NewReader(packed)
		if err != nil {
			return nil, unreadable(err)
		}
		defer func() { _ = z.Close() }()
		body = z
	default:
		return nil, wrongProtocol(http.StatusUnsupportedMediaType, "the content encoding is neither gzip nor identity")
	}
	text, err := io.ReadAll(io.LimitReader(body, int64(r.cfg.MaxBodyBytes)+1))
	switch {
	case err != nil:
		return nil, unreadable(err)
	case len(text) > r.cfg.MaxBodyBytes:
		return nil, tooLarge("unpacked larger than " + strconv.Itoa(r.cfg.MaxBodyBytes) + " bytes")
	}
	return text, nil
}

func unreadable(err error) *refusal {
	if limit := new(http.MaxBytesError); errors.As(err, &limit) {
		return tooLarge("larger than " + strconv.FormatInt(limit.Limit, 10) + " bytes")
	}
	return malformed("the body cannot be read")
}

// answerRefusal answers with a google.rpc.Status in the encoding of the request.
func answerRefusal(w http.ResponseWriter, asJSON bool, refused *refusal) {
	if refused.retry > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(refused.seconds()))
	}
	message := refused.status().Proto()
	marshal, media := proto.Marshal, protobufType
	if asJSON {
		marshal, media = protojson.Marshal, jsonType
	}
	body, err := marshal(message)
	if err != nil {
		body = nil // a status without words still has its code
	}
	w.Header().Set("Content-Type", media)
	w.WriteHeader(refused.http)
	_, _ = w.Write(body)
}

// answer says that a request was taken, but for some of its records.
func answer(w http.ResponseWriter, q *request, refused uint64) {
	response := responseTo(q.signal, refused)
	marshal, media := response.MarshalProto, protobufType
	if q.json {
		marshal, media = response.MarshalJSON, jsonType
	}
	body, err := marshal()
	if err != nil {
		answerRefusal(w, q.json, internal())
		return
	}
	w.Header().Set("Content-Type", media)
	_, _ = w.Write(body)
}

// response is what the responses of the OpenTelemetry libraries have in common.
type response interface {
	MarshalProto() ([]byte, error)
	MarshalJSON() ([]byte, error)
}

// partly is what is said of records that were refused.
const partly = "records with more attributes than may be are refused"

func responseTo(signal Signal, refused uint64) response {
	switch signal {
	case Logs:
		response := plogotlp.NewExportResponse()
		if refused > 0 {
			response.PartialSuccess().SetRejectedLogRecords(int64(refused))
			response.PartialSuccess().SetErrorMessage(partly)
		}
		return response
	case Traces:
		response := ptraceotlp.NewExportResponse()
		if refused > 0 {
			response.PartialSuccess().SetRejectedSpans(int64(refused))
			response.PartialSuccess().SetErrorMessage(partly)
		}
		return response
	default:
		return pmetricotlp.NewExportResponse()
	}
}
