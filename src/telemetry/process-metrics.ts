/** Metrics of the process, from prom-client: those that take no longer the more sockets are open. */
import { collectDefaultMetrics, Registry } from 'prom-client';
import { countOpen } from '../descriptors.ts';
import { type ForeignMetrics, type MetricDefinition, valueText } from './exposition.ts';

/**
 * prom-client walks over every handle for these, and reads the names of all
 * descriptors at once: with 16,000 sockets that is 65 ms in which no request
 * gets on. Connections and tunnels have gauges of their own.
 */
const SLOW = ['nodejs_active_handles', 'nodejs_active_handles_total', 'nodejs_active_requests', 'nodejs_active_requests_total', 'nodejs_active_resources', 'nodejs_active_resources_total'];
const OPEN_FDS: MetricDefinition = { name: 'process_open_fds', help: 'Number of open file descriptors.', type: 'gauge', labelNames: [] };

export function createProcessMetrics(): ForeignMetrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const knowsFds = registry.getSingleMetric(OPEN_FDS.name) !== undefined;
  for (const name of [...SLOW, OPEN_FDS.name]) registry.removeSingleMetric(name);
  return {
    definitions: () => [...(registry.getMetricsAsArray() as unknown as MetricDefinition[]), ...(knowsFds ? [OPEN_FDS] : [])],
    text: async () => {
      const { name, help, type } = OPEN_FDS;
      const openFds = knowsFds ? `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n${name} ${valueText(countOpen().open)}\n` : '';
      return `${await registry.metrics()}${openFds}`;
    },
  };
}
