package server

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/velosync/velosync/masterd/store"
)

// Metrics returns the handler of /metrics alone, for a listener that only operators
// reach. It names every space.
func (s *Server) Metrics() http.Handler {
	return promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{
		ErrorLog:            metricsLog{s},
		ErrorHandling:       promhttp.ContinueOnError, // a space that can't be read does not hide the others
		MaxRequestsInFlight: 4,
		Timeout:             10 * time.Second,
	})
}

type metricsLog struct{ s *Server }

func (l metricsLog) Println(v ...any) { l.s.log.Warn("metrics", "err", fmt.Sprint(v...)) }

// httpMetrics is what is counted of requests.
type httpMetrics struct {
	took     *prometheus.HistogramVec
	received *prometheus.HistogramVec
	sent     *prometheus.HistogramVec
}

func (s *Server) newRegistry() (*prometheus.Registry, *httpMetrics) {
	labels := []string{"route", "method", "status"}
	bytes := prometheus.ExponentialBuckets(128, 4, 9) // 128 B to 8 MiB
	m := &httpMetrics{
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "velosync_http_request_seconds",
			Help: "Time from a request's header to the end of its answer.", Buckets: prometheus.ExponentialBuckets(0.0005, 2.5, 12)}, labels),
		received: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "velosync_http_request_bytes",
			Help: "Announced size of a request's body.", Buckets: bytes}, labels),
		sent: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "velosync_http_response_bytes",
			Help: "Size of an answer's body.", Buckets: bytes}, labels),
	}
	r := prometheus.NewRegistry()
	r.MustRegister(m.took, m.received, m.sent,
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "velosync_event_streams", Help: "Open event streams."},
			func() float64 { return float64(s.streams.count()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "velosync_staged_bytes", Help: "Bytes of staged parts of long pushes."},
			func() float64 { return float64(s.staging.bytes()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "velosync_snapshot_bytes", Help: "Bytes of snapshots kept for new devices."},
			func() float64 { return float64(s.snapshots.kept()) }),
		spaceCollector{s})
	return r, m
}

func (m *httpMetrics) observe(w *response, r *http.Request, took time.Duration) {
	if w.stream {
		return
	}
	route, method := w.route, r.Method
	if route == "" {
		route = "none" // clients choose paths and methods: no label may come from them
	}
	if method != "GET" && method != "POST" {
		method = "other"
	}
	labels := prometheus.Labels{"route": route, "method": method, "status": fmt.Sprint(w.status)}
	m.took.With(labels).Observe(took.Seconds())
	m.received.With(labels).Observe(float64(max(r.ContentLength, 0)))
	m.sent.With(labels).Observe(float64(w.bytes))
}

// A spaceCollector prints store.Stats of every space when it is asked.
type spaceCollector struct{ s *Server }

type spaceMetric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(store.Stats) int64
}

func counter(name, help string, value func(store.Stats) int64) spaceMetric {
	return spaceMetric{prometheus.NewDesc("velosync_"+name+"_total", help, []string{"space"}, nil), prometheus.CounterValue, value}
}

func gauge(name, help string, value func(store.Stats) int64) spaceMetric {
	return spaceMetric{prometheus.NewDesc("velosync_"+name, help, []string{"space"}, nil), prometheus.GaugeValue, value}
}

var spaceMetrics = []spaceMetric{
	counter("push_rows", "Rows pushed since the store was opened.", func(s store.Stats) int64 { return s.PushRows }),
	counter("push_duplicates", "Pushed rows that were applied before.", func(s store.Stats) int64 { return s.PushDuplicates }),
	counter("pull_rows", "Rows sent to devices.", func(s store.Stats) int64 { return s.PullRows }),
	counter("echo_rows", "Changed rows not sent back to their author.", func(s store.Stats) int64 { return s.EchoRows }),
	counter("lost_rows", "Versions that lost a conflict.", func(s store.Stats) int64 { return s.LostRows }),
	counter("rejected_rows", "Pushed rows that break a constraint.", func(s store.Stats) int64 { return s.RejectedRows }),
	counter("digests", "Ranges of rows that devices compared with the space.", func(s store.Stats) int64 { return s.Digests }),
	counter("divergences", "Of them, those in which a device had something else, and got the space's.", func(s store.Stats) int64 { return s.Divergences }),
	gauge("head_seq", "Newest seq.", func(s store.Stats) int64 { return int64(s.Head) }),
	gauge("rows", "Live rows of all tables.", func(s store.Stats) int64 { return s.Rows }),
	gauge("tombstones", "Deleted rows not forgotten yet.", func(s store.Stats) int64 { return s.Tombstones }),
	gauge("conflicts", "Versions in the conflict log.", func(s store.Stats) int64 { return s.Conflicts }),
	gauge("store_bytes", "Size of the store, its write-ahead log left out.", func(s store.Stats) int64 { return s.Bytes }),
	gauge("devices", "Devices that have synced.", func(s store.Stats) int64 { return int64(len(s.Devices)) }),
	gauge("lag_seq", "How far the device that acknowledged least is behind the head.", lag),
}

func lag(s store.Stats) (n int64) {
	for _, d := range s.Devices {
		n = max(n, int64(s.Head-d.Acked))
	}
	return n
}

var collectFailed = prometheus.NewDesc("velosync_stats_failed", "The stores could not be read.", nil, nil)

// Describe implements [prometheus.Collector].
func (c spaceCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range spaceMetrics {
		ch <- m.desc
	}
	ch <- collectFailed
}

// Collect implements [prometheus.Collector].
func (c spaceCollector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	names, err := c.s.engine.Spaces(ctx)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(collectFailed, err)
		return
	}
	for _, name := range names {
		stats, err := c.s.spaceStats(ctx, []string{name})
		if err != nil {
			ch <- prometheus.NewInvalidMetric(collectFailed, err)
			continue
		}
		for _, st := range stats {
			for _, m := range spaceMetrics {
				ch <- prometheus.MustNewConstMetric(m.desc, m.kind, float64(m.value(st)), name)
			}
		}
	}
}
