/** Whether a listener takes a form: the check that comes before the policy. */
import type { Form } from '../config/config.ts';
import { Fault } from '../errors.ts';
import type { AccessRecord } from '../telemetry/access-record.ts';

/** Notes the form. @throws {Fault} form-not-allowed */
export function takeForm(record: AccessRecord, form: Form, forms: readonly Form[]): void {
  record.form = form;
  if (forms.includes(form)) return;
  record.verdict = 'deny';
  throw new Fault('form-not-allowed', `this listener takes ${forms.join(', ')}, not ${form}`, {
    remedy: `use another port, or add ${form} to the listener's forms`,
  });
}
